"""Entries that change places, are repeated or left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Kernel, operator

_PAD_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
_FAST = {"reflect": "reflect", "edge": "replicate"}


@operator("Transpose")
def transpose(node: Node) -> Kernel:
    """Axes trade places; without `perm` all are reversed."""
    order = node.get("perm", None)
    return lambda x: x.permute(order if order is not None else list(range(x.ndim))[::-1])


@operator("Expand", host=(1,))
def expand(node: Node) -> Kernel:
    """The larger of the input's and the wanted size, axis by axis."""
    target = node.operand(1)

    def run(x: Tensor, shape: Tensor) -> Tensor:
        return x.expand(torch.broadcast_shapes(x.shape, target((x, shape))))

    return run


@operator("Tile", host=(1,))
def tile(node: Node) -> Kernel:
    """Copies side by side."""
    repeats = node.operand(1)
    return lambda x, counts: x.repeat(repeats((x, counts)))


@operator("Slice", host=(1, 2, 3, 4))
def slice_(node: Node) -> Kernel:
    """Any bounds and steps, backwards too."""
    starts, ends = node.operand(1, "starts"), node.operand(2, "ends")
    axes, steps = node.operand(3, "axes"), node.operand(4)

    def run(*inputs: Tensor | None) -> Tensor:
        x = inputs[0]
        first, last, places, strides = starts(inputs), ends(inputs), axes(inputs), steps(inputs)
        places = range(len(first)) if places is None else places
        strides = [1] * len(first) if strides is None else strides
        for start, end, axis, step in zip(first, last, places, strides, strict=True):
            begin, stop = _clamp(start, end, step, x.shape[axis])
            if step < 0:  # torch steps forward only
                count = max(0, -(-(begin - stop) // -step))
                x = (
                    x.narrow(axis, begin + (count - 1) * step, (count - 1) * -step + 1)
                    if count
                    else x.narrow(axis, 0, 0)
                )
                x = x[(slice(None),) * (axis % x.ndim) + (slice(None, None, -step),)].flip(axis)
            else:
                x = x[(slice(None),) * (axis % x.ndim) + (slice(begin, max(begin, stop), step),)]
        return x

    return run


def _clamp(start: int, end: int, step: int, size: int) -> tuple[int, int]:
    """Bounds within the axis. Unlike in Python, a start before the first entry is that entry, going backwards too."""
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    last = size if step > 0 else size - 1
    return min(max(start, 0), last), min(max(end, last - size), last)


@operator("Pad", host=(1, 3))
def pad(node: Node) -> Kernel:
    """Negative amounts cut."""
    amounts, axes, mode = node.operand(1, "pads"), node.operand(3), node.get("mode", "constant")
    if mode != "constant" and mode not in _PAD_MODES:
        node.refuse(f"pads by the mode {mode!r}")
    constant = node.get("value", 0.0) if not node.has(2) else node.number(2)

    def run(*inputs: Tensor | None) -> Tensor:
        x = inputs[0]
        pads, places = amounts(inputs), axes(inputs)
        places = range(x.ndim) if places is None else places
        half = len(pads) // 2
        both = [(0, 0)] * x.ndim
        for place, axis in enumerate(places):
            both[axis] = pads[place], pads[half + place]
        if mode != "constant":
            return _pad_from_itself(x, both, mode)
        value = constant if constant is not None else inputs[2].item()
        flat = [entry for pair in reversed(both) for entry in pair]
        while len(flat) > 2 and flat[-1] == flat[-2] == 0:
            flat = flat[:-2]
        return functional.pad(x, flat, value=value)

    return run


def _pad_from_itself(x: Tensor, pads: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """Padding with entries of the tensor."""
    axes = [axis for axis, pair in enumerate(pads) if pair != (0, 0)]
    fits = all(0 <= entry < x.shape[axis] for axis in axes for entry in pads[axis])
    if mode in _FAST and fits and x.ndim == 4 and min(axes, default=2) >= 2 and x.is_floating_point():
        return functional.pad(x, [*pads[3], *pads[2]], mode=_FAST[mode])
    for axis in axes:
        begin, end = pads[axis]
        kept = np.arange(x.shape[axis])[max(0, -begin) : x.shape[axis] - max(0, -end)]
        places = np.pad(kept, (max(0, begin), max(0, end)), mode=mode)
        x = x.index_select(axis, torch.from_numpy(places).to(x.device))
    return x


@operator("DepthToSpace")
def depth_to_space(node: Node) -> Kernel:
    """Blocks of channels become pixels; the block's offset is the outer (DCR) or inner (CRD) part of a channel."""
    block, inner = node.get("blocksize"), node.get("mode", "DCR") == "CRD"

    def run(x: Tensor) -> Tensor:
        if inner:
            return functional.pixel_shuffle(x, block)
        n, c, h, w = x.shape
        x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, c // block**2, h * block, w * block)

    return run


@operator("SpaceToDepth")
def space_to_depth(node: Node) -> Kernel:
    """Blocks of pixels become channels."""
    block, inner = node.get("blocksize"), node.get("mode", "DCR") == "CRD"

    def run(x: Tensor) -> Tensor:
        if inner:
            return functional.pixel_unshuffle(x, block)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(n, c * block**2, h // block, w // block)

    return run


@operator("ReverseSequence")
def reverse_sequence(node: Node) -> Kernel:
    """The first entries of every sequence backwards, as many as its length says."""
    batch, time = node.get("batch_axis", 1), node.get("time_axis", 0)

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        x = x.movedim((batch, time), (0, 1))
        steps = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        lengths = lengths.reshape(-1, 1)
        places = torch.where(steps < lengths, lengths - 1 - steps, steps)
        rows = torch.arange(x.shape[0], device=x.device).reshape(-1, 1)
        return x[rows, places].movedim((0, 1), (batch, time))

    return run


@operator("Trilu", host=(1,))
def triangle(node: Node) -> Kernel:
    """The upper or lower triangle."""
    function, diagonal = torch.triu if node.get("upper", 1) else torch.tril, node.operand(1)
    return lambda *inputs: function(inputs[0], (diagonal(inputs) or [0])[0])


@operator("Col2Im", host=(1, 2))
def col2im(node: Node) -> Kernel:
    """Patches laid over each other and added, over two axes."""
    image, block = node.operand(1), node.operand(2)
    strides, dilations = node.get("strides", [1, 1]), node.get("dilations", [1, 1])
    pads = node.get("pads", [0] * 4)
    axes = (node.shape(1) or (2,))[0]
    if axes != 2 or len(strides) != 2 or len(pads) != 4:
        node.refuse("patches over other than two axes")

    def run(*inputs: Tensor) -> Tensor:
        height, width = image(inputs)
        padded = [height + pads[0] + pads[2], width + pads[1] + pads[3]]
        whole = functional.fold(inputs[0], padded, block(inputs), dilations, 0, strides)
        return whole[..., pads[0] : pads[0] + height, pads[1] : pads[1] + width]

    return run
