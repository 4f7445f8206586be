"""Between which values the tensors of a net lie: what a quantized net has its scales from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx

from ..recovery.activations import Feeds, activations

__all__ = ["Ranges", "first_samples", "gather_ranges"]

Ranges = Mapping[str, tuple[float, float]]
"""Tensor -> lowest and highest value."""

_MEMORY_MIB = 256


def gather_ranges(model: onnx.ModelProto, tensors: Iterable[str], feeds: Feeds, *, threads: int = 0) -> Ranges:
    """The lowest and the highest value of each tensor over all samples, in bounded memory.

    Raises:
        DataError: fewer samples than a fixed batch size asks for.
    """
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for values in activations(model, tensors, feeds, memory=_MEMORY_MIB, threads=threads):
        for name, x in values.items():
            if x.size and np.issubdtype(x.dtype, np.floating):
                low[name] = min(low.get(name, np.inf), float(x.min()))
                high[name] = max(high.get(name, -np.inf), float(x.max()))
    return {name: (low[name], high[name]) for name in low}


def first_samples(feeds: Feeds, count: int) -> dict[str, np.ndarray]:
    """The first `count` samples; inputs of rank 0 as they are."""
    return {name: array[:count] if array.ndim else array for name, array in feeds.items()}
