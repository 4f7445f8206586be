"""What shows the lessons: the original, run by whatever runs it fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
import torch
from torch import Tensor

from ...graph import to_torch
from ..recovery.activations import open_session, outputs_of

__all__ = ["Teacher", "teacher_of"]

Teacher = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]
"""Inputs by name -> the tensors to be compared."""


def teacher_of(model: onnx.ModelProto, device: torch.device, any_batch: bool) -> Teacher:
    """A teacher that gives the outputs of `model`.

    On a CPU onnxruntime infers half as fast again as torch; a graph of a fixed batch takes larger ones in torch only.

    Args:
        any_batch: whether the graph itself takes batches of any size.
    """
    if device.type == "cpu" and any_batch:
        session, names = open_session(model), [value.name for value in model.graph.output]

        def by_onnxruntime(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
            found = outputs_of(session, names, {name: tensor.numpy() for name, tensor in inputs.items()})
            return tuple(torch.from_numpy(found[name]) for name in names)

        return by_onnxruntime
    module = to_torch(model).to(device).requires_grad_(False)

    def by_torch(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            shown = module(inputs)
        return shown if isinstance(shown, tuple) else (shown,)

    return by_torch
