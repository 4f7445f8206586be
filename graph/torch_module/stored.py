"""Weights that the file holds as integers: the module trains floats that are rounded on their way in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import torch
from torch import Tensor

from ..stored import Stored
from .operators.quantization import quantize, spread
from .registry import Kernel
from .values import as_tensor, integer_range

__all__ = ["Latent", "latents"]

_SEVEN_BITS = {onnx.TensorProto.INT8: (-64, 64), onnx.TensorProto.UINT8: (0, 127)}
"""What onnxruntime's quantization uses of a type for processors that cut larger sums off (`reduce_range`)."""
_FINE = (onnx.TensorProto.INT32,)  # biases: their steps are far below what a float32 tells apart, so none is rounded


@dataclass(frozen=True)
class Latent:
    """One such weight, as numbers of the graph."""

    tensor: onnx.TensorProto
    scale: onnx.TensorProto
    zero_point: onnx.TensorProto | None
    axis: int

    @property
    def exact(self) -> bool:
        """Whether the float stands for itself instead of its nearest integer."""
        return self.tensor.data_type in _FINE

    @cached_property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer that training may come to: where the file keeps to 7 bits, so does training."""
        low, high = _SEVEN_BITS.get(self.tensor.data_type, (0, 0))
        own = as_tensor(self.tensor)
        if low < high and own.numel() and low <= int(own.min()) and int(own.max()) <= high:
            return low, high
        limits = integer_range(self.tensor.data_type)
        assert limits is not None  # `latents` takes no others
        return limits

    def value(self) -> Tensor:
        """What DequantizeLinear makes of the integers."""
        return _dequantize(as_tensor(self.tensor), *self._parameters(), self.axis)

    def kernel(self) -> Kernel:
        """The rounded weight, with the gradient of the weight itself."""
        if self.exact:
            return lambda weight, scale, zero_point=None: weight
        axis, limits = self.axis, self.limits

        def run(weight: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
            zero = None if zero_point is None else spread(zero_point, weight, axis, 0)
            whole = quantize(weight, spread(scale, weight, axis, 0), zero, limits)
            return _dequantize(whole, scale, zero_point, axis)

        return run

    def integers(self, weight: Tensor) -> np.ndarray:
        """What the file holds for a weight; what did not change keeps its integer."""
        scale, zero_point = self._parameters()
        weight = weight.detach().cpu().to(scale.dtype)
        zero = None if zero_point is None else spread(zero_point, weight, self.axis, 0).double()
        steps = spread(scale, weight, self.axis, 0).double()
        whole = quantize(weight.double(), steps, zero, self.limits)
        own = as_tensor(self.tensor)
        same = weight == self.value()
        return torch.where(same, own.double(), whole).numpy()

    def _parameters(self) -> tuple[Tensor, Tensor | None]:
        return as_tensor(self.scale), None if self.zero_point is None else as_tensor(self.zero_point)


def _dequantize(whole: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    y = whole.to(scale.dtype)
    if zero_point is not None:
        y = y - spread(zero_point, y, axis, 0).to(y.dtype)
    return y * spread(scale, y, axis, 0)


def latents(model: onnx.ModelProto, stored: Mapping[str, Stored]) -> dict[str, Latent]:
    """Output of a DequantizeLinear -> the weight behind it."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.output[0]: node for node in model.graph.node}
    return {
        name: Latent(
            tensors[item.tensor], tensors[nodes[name].input[1]], tensors.get(item.zero_point), max(item.axis, 0)
        )
        for name, item in stored.items()
        if integer_range(tensors[item.tensor].data_type) is not None
    }
