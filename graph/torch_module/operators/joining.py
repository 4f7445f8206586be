"""Concat and Split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..node import Node
from ..registry import Kernel, operator


@operator("Concat")
def concat(node: Node) -> Kernel:
    """Along an axis."""
    axis = node.get("axis", 1)
    return lambda *pieces: torch.cat(pieces, axis)


@operator("Split", host=(1,))
def split(node: Node) -> Kernel:
    """Into given sizes, or evenly with a smaller last piece."""
    axis, sizes, count = node.get("axis", 0), node.operand(1, "split"), node.outputs

    def run(x: Tensor, *operands: Tensor) -> Sequence[Tensor]:
        wanted = sizes((x, *operands))
        if wanted is None:
            size, total = -(-x.shape[axis] // count), x.shape[axis]
            wanted = [max(0, min(size, total - size * place)) for place in range(count)]
        return torch.split(x, wanted, axis)

    return run
