"""Pooling, resizing and sampling: every channel by itself, over space."""

from __future__ import annotations

import onnx

from ..edit import Edit
from ..labels import varying
from ..walk import Walk
from .registry import rule


@rule("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def pool(walk: Walk, node: onnx.NodeProto) -> None:
    """Axis 1 passes; MaxPool's indices are positions in the whole tensor, so they bind it."""
    labels = walk.labels(node.input[0])
    labels = walk.pin(labels, set(range(labels.ndim)) - {1}, f"{node.op_type} {node.name!r} pools over channels")
    walk.write(node.output[0], labels)
    for extra in node.output[1:]:
        if extra:
            walk.freeze(labels, f"{node.op_type} {node.name!r} gives out positions of its maxima")
            walk.write(extra, walk.stays(labels.ndim, "positions of maxima"))


@rule("GridSample", "RoiAlign")
def sample(walk: Walk, node: onnx.NodeProto) -> None:
    """Every channel is read at the same places, which stay."""
    labels = walk.labels(node.input[0])
    for name in node.input[1:]:
        walk.freeze(walk.labels(name), f"{node.op_type} {node.name!r} reads places")
    labels = walk.pin(labels, set(range(labels.ndim)) - {1}, f"{node.op_type} {node.name!r} samples over channels")
    walk.write(node.output[0], labels)


def fix_sizes(edit: Edit, node: onnx.NodeProto) -> None:
    """Output sizes, where they are given, on axes that lost channels."""
    if len(node.input) < 4 or not node.input[3]:
        return
    sizes = edit.operand(node, 3, "sizes")
    if sizes is None:  # computed at run time: nothing was removed here
        return
    axes = edit.operand(node, 99, "axes") or list(range(len(sizes)))
    rank = len(edit.shape(node.input[0]))
    cut = {place: axis % rank for place, axis in enumerate(axes) if edit.touched(node.output[0], axis % rank)}
    for place, axis in cut.items():
        sizes[place] = edit.count(node.output[0], axis)
    if cut:
        edit.set_operand(node, 3, "sizes", sizes)


@rule("Resize", "Upsample", fix=fix_sizes)
def resize(walk: Walk, node: onnx.NodeProto) -> None:
    """Axes that keep their size pass labels; nothing can go from a stretched one."""
    labels = walk.labels(node.input[0])
    before, after = walk.shape(node.input[0]), walk.shape(node.output[0])
    same = {axis for axis in range(labels.ndim) if isinstance(before[axis], int) and before[axis] == after[axis]}
    labels = walk.pin(
        labels, set(range(labels.ndim)) - same, f"{node.op_type} {node.name!r} stretches the channel axis"
    )
    if varying(labels) and walk.computed(node, 3):
        walk.freeze(labels, f"{node.op_type} {node.name!r} takes sizes computed at run time")
    walk.write(node.output[0], labels)
