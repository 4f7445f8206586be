"""Concat and Split: labels are joined and cut as the data is."""

from __future__ import annotations

import numpy as np
import onnx

from ..edit import Edit
from ..labels import varying
from ..protos import attribute
from ..walk import Walk
from .registry import rule


@rule("Concat")
def concat(walk: Walk, node: onnx.NodeProto) -> None:
    """Along the channel axis labels line up one after the other; along any other axis the pieces share them."""
    rank = len(walk.shape(node.output[0]))
    axis = attribute(node, "axis", 1) % rank
    pieces = [walk.source(node, name) for name in node.input]
    along = any(axis in varying(piece) for piece in pieces)
    across = any(set(varying(piece)) - {axis} for piece in pieces)
    if across and not along:
        widest = max(pieces, key=lambda piece: piece.size)
        for piece in pieces:
            walk.union(widest, piece)
        walk.write(node.output[0], walk.atoms.find(widest))
        return
    sizes = [walk.shape(name)[axis] for name in node.input]
    if not all(isinstance(size, int) for size in sizes):
        for piece in pieces:
            walk.freeze(piece, f"Concat {node.name!r} joins pieces of unknown size")
        walk.write(node.output[0], walk.stays(rank, f"Concat {node.name!r} joins pieces of unknown size"))
        return
    shape = list(np.max([piece.shape for piece in pieces], axis=0))
    full = []
    for piece, size in zip(pieces, sizes, strict=True):
        shape[axis] = size
        full.append(np.broadcast_to(piece, shape))
    walk.write(node.output[0], np.concatenate(full, axis=axis))


def fix_split(edit: Edit, node: onnx.NodeProto) -> None:
    """Sizes of the pieces, spelled out once they are uneven."""
    axis = attribute(node, "axis", 0) % len(edit.shape(node.input[0]))
    if not any(edit.touched(name, axis) for name in node.output if name):
        return
    edit.set_operand(node, 1, "split", [edit.count(name, axis) for name in node.output], since=13)
    edit.remove_attribute(node, "num_outputs")


@rule("Split", fix=fix_split)
def split(walk: Walk, node: onnx.NodeProto) -> None:
    """Each piece takes its part of the labels."""
    labels = walk.labels(node.input[0])
    axis = attribute(node, "axis", 0) % labels.ndim
    sizes = [walk.shape(name)[axis] if walk.shape(name) else None for name in node.output]
    if axis not in varying(labels):
        for name in node.output:
            walk.write(name, labels)
        return
    if not all(isinstance(size, int) for size in sizes) or sum(sizes) != labels.shape[axis]:
        walk.freeze(labels, f"Split {node.name!r} has pieces of unknown size")
        for name in node.output:
            walk.write(name, walk.stays(labels.ndim, f"Split {node.name!r} has pieces of unknown size"))
        return
    for name, piece in zip(node.output, np.split(labels, np.cumsum(sizes)[:-1], axis=axis), strict=True):
        walk.write(name, piece)
