"""Lists of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from ..node import Node
from ..registry import Kernel, TensorList, operator


@operator("SequenceEmpty", "SequenceConstruct")
def sequence_construct(node: Node) -> Kernel:
    """Of the inputs."""
    return lambda *tensors: TensorList(tensors)


@operator("SequenceInsert", host=(2,))
def sequence_insert(node: Node) -> Kernel:
    """Before a position, or at the end."""

    def run(sequence: TensorList, tensor: Tensor, position: Tensor | None = None) -> TensorList:
        place = len(sequence) if position is None else int(position.item())
        return TensorList((*sequence[:place], tensor, *sequence[place:]))

    return run


@operator("SequenceErase", host=(1,))
def sequence_erase(node: Node) -> Kernel:
    """At a position, or the last."""

    def run(sequence: TensorList, position: Tensor | None = None) -> TensorList:
        place = (-1 if position is None else int(position.item())) % len(sequence)
        return TensorList((*sequence[:place], *sequence[place + 1 :]))

    return run


@operator("SequenceAt", host=(1,))
def sequence_at(node: Node) -> Kernel:
    """One of them."""
    return lambda sequence, position: sequence[int(position.item())]


@operator("SequenceLength")
def sequence_length(node: Node) -> Kernel:
    """How many."""
    return lambda sequence: torch.tensor(len(sequence))


@operator("SplitToSequence", host=(1,))
def split_to_sequence(node: Node) -> Kernel:
    """Into pieces of one size or of given sizes; without, into slices."""
    axis, keep, sizes = node.get("axis", 0), node.get("keepdims", 1), node.operand(1)
    scalar = len(node.shape(1) or ()) == 0

    def run(x: Tensor, *operands: Tensor) -> TensorList:
        wanted = sizes((x, *operands))
        if wanted is None:
            pieces = x.split(1, axis)
            return TensorList(pieces if keep else [piece.squeeze(axis) for piece in pieces])
        return TensorList(x.split(wanted[0] if scalar else wanted, axis))

    return run


@operator("ConcatFromSequence")
def concat_from_sequence(node: Node) -> Kernel:
    """Along an axis, or a new one."""
    axis, join = node.get("axis"), torch.stack if node.get("new_axis", 0) else torch.cat
    return lambda sequence: join(sequence, axis)
