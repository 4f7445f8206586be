"""Numbers quantized to integers, with gradients that go straight through the rounding."""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from ..node import Node
from ..registry import Kernel, operator
from ..values import integer_range

__all__ = ["quantize"]


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor | None, limits: tuple[int, int]) -> Tensor:
    """round(x / scale) + zero point, within the limits, still as floats.

    The gradient is that of x / scale, and 0 where the limits cut.
    """
    y = x / scale
    y = y.round().detach() + (y - y.detach())  # to the bit the rounded value, with the gradient of y
    if zero_point is not None:
        y = y + zero_point.to(y.dtype)
    return y.clamp(*limits)


def spread(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point in a shape that broadcasts with `x`: one for all, per channel, or per block."""
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return parameter.reshape(shape)


@operator("QuantizeLinear")
def quantize_linear(node: Node) -> Kernel:
    """What only DequantizeLinear reads stays a float tensor of whole numbers: integers have no gradient."""
    kind = node.get("output_dtype", 0) or node.type(2) or TensorProto.UINT8
    limits, axis, block = integer_range(kind), node.get("axis", 1), node.get("block_size", 0)
    if limits is None:
        node.refuse("quantizes to a type that is no integer of 32 bits or less")
    dtype = node.dtype(kind)
    only_dequantized = node.readers() == {"DequantizeLinear"}

    def run(x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        x = x if x.is_floating_point() else x.float()
        steps = spread(scale, x, axis, block).to(x.dtype)
        zero = None if zero_point is None else spread(zero_point, x, axis, block)
        y = quantize(x, steps, zero, limits)
        return y if only_dequantized else y.to(dtype)

    return run


@operator("DequantizeLinear")
def dequantize_linear(node: Node) -> Kernel:
    """(x - zero point) scale."""
    axis, block = node.get("axis", 1), node.get("block_size", 0)

    def run(x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        steps = spread(scale, x, axis, block)
        y = x.to(steps.dtype) if not x.is_floating_point() else x
        if zero_point is not None:
            y = y - spread(zero_point, x, axis, block).to(y.dtype)
        return y * steps

    return run


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node) -> Kernel:
    """To uint8, with the scale and zero point of the entries' own range."""

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
        scale = (high - low) / 255
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        zero = (-low / scale).round().clamp(0, 255)
        return quantize(x, scale, zero, (0, 255)).to(torch.uint8), scale, zero.to(torch.uint8)

    return run


@operator("MatMulInteger")
def matmul_integer(node: Node) -> Kernel:
    """Exact: float64 holds every sum of products of bytes."""

    def run(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
        left, right = a.double(), b.double()
        if a_zero is not None:  # one for each row
            left = left - (a_zero.double().unsqueeze(-1) if a_zero.ndim else a_zero.double())
        if b_zero is not None:
            right = right - b_zero.double()
        return torch.matmul(left, right).to(torch.int32)

    return run
