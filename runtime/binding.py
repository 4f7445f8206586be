"""Inputs and outputs in a provider's own memory, so that a timed call does not pay for copies to and from the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime as ort

__all__ = ["bound_call", "memory_of"]

_MEMORY = {"cuda": "cuda", "tensorrt": "cuda", "nvtensorrtrtx": "cuda"}


def memory_of(provider: str) -> str:
    """onnxruntime's name for the memory that a provider (in short) computes in."""
    return _MEMORY.get(provider, "cpu")


def bound_call(
    handle: ort.InferenceSession, feeds: Mapping[str, np.ndarray], memory: str, index: int
) -> Callable[[], object]:
    """A call of the session on inputs that are in `memory` already; it returns when the outputs are there.

    Args:
        index: which of several devices with such memory.
    """
    index = 0 if memory == "cpu" else index
    binding = handle.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), memory, index))
    for output in handle.get_outputs():
        binding.bind_output(output.name, memory, index)

    def call() -> object:
        handle.run_with_iobinding(binding)
        binding.synchronize_outputs()  # a GPU's kernels are only queued when the call returns
        return binding

    return call
