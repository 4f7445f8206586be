"""Pools over space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Kernel, operator
from .spatial import Window, pad_space, window

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _kernel(node: Node) -> tuple[tuple[int, ...], Window]:
    kernel = tuple(node.get("kernel_shape"))
    if len(kernel) not in _MAX:
        node.refuse(f"torch pools over 1 to 3 axes, not {len(kernel)}")
    return kernel, window(node, len(kernel))


@operator("MaxPool")
def max_pool(node: Node) -> Kernel:
    """The largest entry, and where it is in the whole tensor."""
    kernel, slide = _kernel(node)
    function, indices, columns = _MAX[len(kernel)], node.wants(1), node.get("storage_order", 0)
    strides, dilations, pads = slide.strides, slide.dilations, slide.begins()
    fits = slide.symmetric and all(2 * p <= k for p, k in zip(pads, kernel, strict=True))
    if fits and not indices:

        def plain(x: Tensor) -> Tensor:
            if x.is_floating_point():
                return function(x, kernel, strides, pads, dilations, slide.ceil)
            return function(x.double(), kernel, strides, pads, dilations, slide.ceil).to(x.dtype)

        return plain

    def padded(x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        padding = slide.padding(x.shape[2:], kernel)
        wide = pad_space(x if x.is_floating_point() else x.double(), padding, -math.inf)
        if not indices:
            return function(wide, kernel, strides, 0, dilations).to(x.dtype)
        values, places = function(wide, kernel, strides, 0, dilations, return_indices=True)
        return values.to(x.dtype), _whole(places, wide.shape[2:], x.shape, padding, columns=bool(columns))

    return padded


def _whole(
    places: Tensor, padded: Sequence[int], shape: Sequence[int], padding: Sequence[tuple[int, int]], *, columns: bool
) -> Tensor:
    """Positions in a padded map -> in the tensor without padding, the first spatial axis fastest if `columns`."""
    axes = []
    for size in reversed(padded):
        axes.append(places % size)
        places = places // size
    axes = [place - begin for place, (begin, _) in zip(reversed(axes), padding, strict=True)]
    order = range(len(axes))
    flat = torch.zeros_like(places)
    for axis in reversed(order) if columns else order:
        flat = flat * shape[2 + axis] + axes[axis]
    maps = torch.arange(shape[0] * shape[1], device=places.device).reshape(shape[0], shape[1], *(1,) * len(axes))
    return maps * math.prod(shape[2:]) + flat


def _windows(x: Tensor, kernel: Sequence[int], slide: Window) -> Tensor:
    """Every window of (padded) space along new last axes."""
    for axis, (width, stride, step) in enumerate(zip(kernel, slide.strides, slide.dilations, strict=True)):
        x = x.unfold(2 + axis, (width - 1) * step + 1, stride)[..., ::step]
    return x


@operator("AveragePool")
def average_pool(node: Node) -> Kernel:
    """The mean of the entries that exist, or with `count_include_pad` of the padding too."""
    kernel, slide = _kernel(node)
    counted, rank = bool(node.get("count_include_pad", 0)), len(kernel)
    function, axes = _AVERAGE[rank], tuple(range(-rank, 0))
    pads, strides = slide.begins(), slide.strides
    fits = slide.symmetric and all(2 * p <= k for p, k in zip(pads, kernel, strict=True))
    if fits and set(slide.dilations) == {1}:
        return lambda x: function(x, kernel, strides, pads, slide.ceil, counted)

    def padded(x: Tensor) -> Tensor:
        padding = slide.padding(x.shape[2:], kernel)
        total = _windows(pad_space(x, padding), kernel, slide).sum(axes)
        ones = torch.ones_like(x[:1, :1])
        if counted:  # the padding that the node asks for counts, not what rounding up adds
            asked = padding if slide.automatic.startswith("SAME") else list(zip(pads, slide.pads[rank:], strict=True))
            ones = pad_space(ones, asked, 1.0)
            padding = [(0, end - more) for (_, end), (_, more) in zip(padding, asked, strict=True)]
        return total / _windows(pad_space(ones, padding), kernel, slide).sum(axes)

    return padded


@operator("LpPool")
def lp_pool(node: Node) -> Kernel:
    """The p-norm of every window."""
    kernel, slide = _kernel(node)
    power, axes = node.get("p", 2), tuple(range(-len(kernel), 0))

    def run(x: Tensor) -> Tensor:
        windows = _windows(pad_space(x.abs() ** power, slide.padding(x.shape[2:], kernel)), kernel, slide)
        return windows.sum(axes) ** (1 / power)

    return run


@operator("GlobalAveragePool")
def global_average_pool(node: Node) -> Kernel:
    """The mean over space."""
    return lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node) -> Kernel:
    """The largest entry over space."""
    return lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node) -> Kernel:
    """The p-norm over space."""
    power = node.get("p", 2)
    return lambda x: torch.linalg.vector_norm(x, power, tuple(range(2, x.ndim)), keepdim=True)
