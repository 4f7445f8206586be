"""Conv and ConvTranspose."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Kernel, operator
from .spatial import Window, pad_space, window

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def _sound(function: Callable[..., Tensor], dilations: Sequence[int]) -> Callable[..., Tensor]:
    """The function, kept from where oneDNN computes wrong gradients.

    In bfloat16 with the channels last it gives weights of a dilated convolution gradients that are not numbers, or that
    are off by as much as they are large, for most numbers of channels and groups (torch 2.14.1, oneDNN 3.12, AVX-512;
    silently). With the channels first it does not.
    """
    if all(dilation == 1 for dilation in dilations):
        return function

    def careful(x: Tensor, weight: Tensor, *others: object) -> Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # A clone, since the weight of a depthwise convolution is contiguous either way.
            x, weight = x.contiguous(), weight.clone(memory_format=torch.contiguous_format)
        return function(x, weight, *others)

    return careful


def _rank(node: Node) -> int:
    shape = node.shape(1) or node.shape(0)
    if shape is None:
        node.refuse("the rank of its weight is not known")
    if len(shape) - 2 not in _CONV:
        node.refuse(f"torch convolves over 1 to 3 axes, not {len(shape) - 2}")
    return len(shape) - 2


@operator("Conv")
def conv(node: Node) -> Kernel:
    """Weight (outputs, inputs / groups, *kernel)."""
    rank = _rank(node)
    slide, groups = window(node, rank), node.get("group", 1)
    function = _sound(_CONV[rank], slide.dilations)
    strides, pads, dilations = slide.strides, slide.begins(), slide.dilations
    if slide.symmetric:

        def plain(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            return function(x, weight, bias, strides, pads, dilations, groups)

        return plain

    def padded(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = pad_space(x, slide.padding(x.shape[2:], weight.shape[2:]))
        return function(x, weight, bias, strides, 0, dilations, groups)

    return padded


@operator("ConvTranspose")
def conv_transpose(node: Node) -> Kernel:
    """Weight (inputs, outputs / groups, *kernel)."""
    rank = _rank(node)
    slide, groups = window(node, rank), node.get("group", 1)
    function = _sound(_TRANSPOSED[rank], slide.dilations)
    extra = tuple(node.get("output_padding", [0] * rank))
    wanted = node.get("output_shape", None)
    strides, dilations, begins = slide.strides, slide.dilations, slide.begins()
    small = all(more < max(s, d) for more, s, d in zip(extra, strides, dilations, strict=True))
    if slide.symmetric and wanted is None and small:

        def plain(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            return function(x, weight, bias, strides, begins, extra, groups, dilations)

        return plain

    def cropped(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        full = function(x, weight, None, strides, 0, 0, groups, dilations)
        sizes = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
        target = wanted[-rank:] if wanted is not None else sizes if slide.automatic.startswith("SAME") else None
        out = pad_space(full, _cuts(slide, full.shape[2:], extra, target))
        return out if bias is None else out + bias.reshape(-1, *(1,) * rank)

    return cropped


def _cuts(
    slide: Window, full: Sequence[int], extra: Sequence[int], target: Sequence[int] | None
) -> list[tuple[int, int]]:
    """What is added to (negative: cut from) both ends of the whole result."""
    rank = len(full)
    cuts = []
    for axis in range(rank):
        begin, end = slide.pads[axis], slide.pads[rank + axis]
        if target is not None:
            total = full[axis] + extra[axis] - target[axis]
            small, large = total // 2, total - total // 2
            begin, end = (small, large) if slide.automatic == "SAME_UPPER" else (large, small)
        cuts.append((-begin, extra[axis] - end))
    return cuts
