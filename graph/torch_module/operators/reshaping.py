"""The same entries in another shape."""

from __future__ import annotations

import math

from torch import Tensor

from ..node import Node
from ..registry import Kernel, operator


@operator("Reshape", host=(1,))
def reshape(node: Node) -> Kernel:
    """0 keeps the input's size unless `allowzero` is set."""
    target, zero = node.operand(1, "shape"), node.get("allowzero", 0)

    def run(x: Tensor, *operands: Tensor) -> Tensor:
        sizes = target((x, *operands))
        if not zero and 0 in sizes:
            sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
        return x.reshape(sizes)

    return run


@operator("Flatten")
def flatten(node: Node) -> Kernel:
    """To a matrix."""
    axis = node.get("axis", 1)

    def run(x: Tensor) -> Tensor:
        place = axis % x.ndim if axis < 0 else axis
        rows, columns = math.prod(x.shape[:place]), math.prod(x.shape[place:])
        return x.reshape(rows, columns)

    return run


@operator("Squeeze", host=(1,))
def squeeze(node: Node) -> Kernel:
    """Without the given axes, or without all of size 1."""
    axes = node.operand(1, "axes")

    def run(x: Tensor, *operands: Tensor) -> Tensor:
        wanted = axes((x, *operands))
        return x.squeeze() if wanted is None else x.squeeze(tuple(wanted))

    return run


@operator("Unsqueeze", host=(1,))
def unsqueeze(node: Node) -> Kernel:
    """Axes are those of the output."""
    axes = node.operand(1, "axes")

    def run(x: Tensor, *operands: Tensor) -> Tensor:
        wanted = axes((x, *operands))
        rank = x.ndim + len(wanted)
        for axis in sorted(axis % rank for axis in wanted):
            x = x.unsqueeze(axis)
        return x

    return run
