"""What shows the lessons: the original, run by whatever runs it fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
import torch
from torch import Tensor

from ...graph import to_torch
from ..mixed import MixedPrecision
from ..recovery.activations import open_session, outputs_of

__all__ = ["Teacher", "channels_last", "teacher_of"]

Teacher = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]
"""Inputs by name -> the tensors to be compared."""


def teacher_of(model: onnx.ModelProto, device: torch.device, any_batch: bool, precision: MixedPrecision) -> Teacher:
    """A teacher that gives the outputs of `model`, to be asked within `precision`.

    On a CPU onnxruntime infers half as fast again as torch; a graph of a fixed batch takes larger ones in torch only,
    and matrix units want bfloat16: with these torch ran ResNet-56 in .45 of onnxruntime's time (MobileNetV2 in 1.2),
    and the error of its logits was 5e-5 of their variance, where that of a student at 0.7x is .02.

    Args:
        any_batch: whether the graph itself takes batches of any size.
    """
    if device.type == "cpu" and any_batch and not precision.in_matrix_units:
        session, names = open_session(model), [value.name for value in model.graph.output]

        def by_onnxruntime(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
            found = outputs_of(session, names, {name: tensor.numpy() for name, tensor in inputs.items()})
            return tuple(torch.from_numpy(found[name]) for name in names)

        return by_onnxruntime
    # Convolutions of a CPU and of tensor cores want the channels last.
    module = to_torch(model).to(device, memory_format=torch.channels_last).requires_grad_(False)

    def by_torch(inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            shown = module({name: channels_last(values) for name, values in inputs.items()})
        return shown if isinstance(shown, tuple) else (shown,)

    return by_torch


def channels_last(values: Tensor) -> Tensor:
    """A batch of images in the order that convolutions want; anything else as it is."""
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
