"""Operators that change the shape and leave the order of the data: the labels are reshaped with it."""

from __future__ import annotations

import math

import numpy as np
import onnx

from ..edit import Edit
from ..labels import collapse, varying
from ..protos import Dim, Shape
from ..walk import Walk
from .registry import rule

Block = tuple[list[int], list[int]]
"""Source axes and target axes that hold the same entries."""


def _same(a: Dim, b: Dim) -> bool:
    return a is not None and a == b


def _blocks(source: Shape, target: Shape) -> tuple[list[Block], list[Block]]:
    """Blocks matched from the left as far as sizes are known, and whether more is left on both sides."""
    blocks: list[Block] = []
    i = j = 0
    while i < len(source) and j < len(target):
        if _same(source[i], target[j]):
            blocks.append(([i], [j]))
            i, j = i + 1, j + 1
            continue
        ends = _grow(source, target, i, j)
        if ends is None:
            break
        blocks.append((list(range(i, ends[0])), list(range(j, ends[1]))))
        i, j = ends
    return blocks, [(list(range(i, len(source))), list(range(j, len(target))))]


def _grow(source: Shape, target: Shape, i: int, j: int) -> tuple[int, int] | None:
    """Smallest ends of a block that starts at (i, j), or None when an unknown size is in the way."""
    a = b = 1
    end_i, end_j = i, j
    while True:
        if a <= b and end_i < len(source):
            size, end_i = source[end_i], end_i + 1
            if not isinstance(size, int):
                return None
            a *= size
        elif end_j < len(target):
            size, end_j = target[end_j], end_j + 1
            if not isinstance(size, int):
                return None
            b *= size
        else:
            return None
        if a == b and end_i > i and end_j > j:
            return end_i, end_j


def match(source: Shape, target: Shape) -> list[Block]:
    """Blocks of axes that hold the same entries, matched from both ends; what no end explains is one block."""
    left, [(rest_i, rest_j)] = _blocks(source, target)
    if not rest_i and not rest_j:
        return left
    if not rest_i or not rest_j:  # trailing axes of size 1 belong to the last block
        blocks = left or [([], [])]
        blocks[-1] = (blocks[-1][0] + rest_i, blocks[-1][1] + rest_j)
        return blocks
    i0, j0 = rest_i[0], rest_j[0]
    mirrored, [(left_i, left_j)] = _blocks(source[i0:][::-1], target[j0:][::-1])
    size_i, size_j = len(rest_i), len(rest_j)
    right = [
        ([i0 + size_i - 1 - i for i in reversed(a)], [j0 + size_j - 1 - j for j in reversed(b)])
        for a, b in reversed(mirrored)
    ]
    middle = (rest_i[: len(left_i)], rest_j[: len(left_j)])
    return [*left, *([middle] if middle[0] or middle[1] else []), *right]


def reshape_labels(walk: Walk, labels: np.ndarray, source: Shape, target: Shape, reason: str) -> np.ndarray:
    """Labels of the same data under another shape.

    A position can go only with a whole row of every axis, so where several blocks of axes carry labels, all but the
    one with the most units are tied.
    """
    axes = set(varying(labels))
    if not axes:
        return labels.ravel()[:1].reshape((1,) * len(target))
    blocks = match(source, target)
    carriers = [block for block in blocks if axes & set(block[0])]
    if len(carriers) > 1:
        best = max(carriers, key=lambda block: np.unique(collapse(labels, block[0])).size)
        labels = walk.tie(labels, axes - set(best[0]))
        carriers = [best]
    ((inner, outer),) = carriers
    sizes, new = [source[axis] for axis in inner], [target[axis] for axis in outer]
    known = all(isinstance(size, int) for size in (*sizes, *new)) and math.prod(sizes) == math.prod(new)
    if not known:
        walk.freeze(labels, reason)
        return labels.ravel()[:1].reshape((1,) * len(target))
    flat = np.broadcast_to(collapse(labels, inner).reshape([labels.shape[axis] for axis in inner]), sizes)
    shape = [1] * len(target)
    for axis, size in zip(outer, new, strict=True):
        shape[axis] = size
    full = walk.atoms.find(flat.reshape(shape))
    return collapse(full, varying(full))


def fix_target(edit: Edit, node: onnx.NodeProto) -> None:
    """Entries of the target shape on axes that lost positions."""
    target = edit.operand(node, 1, "shape")
    if target is None:  # computed at run time: nothing was removed here
        return
    cut = [axis for axis in range(len(target)) if target[axis] > 0 and edit.touched(node.output[0], axis)]
    for axis in cut:
        target[axis] = edit.count(node.output[0], axis)
    if cut:
        edit.set_operand(node, 1, "shape", target)


@rule("Reshape", fix=fix_target)
def reshape(walk: Walk, node: onnx.NodeProto) -> None:
    """Channel shuffle, flatten before a classifier, heads of attention: all the same to the labels."""
    labels = walk.source(node, node.input[0])
    if walk.computed(node, 1):
        walk.freeze(labels, f"Reshape {node.name!r} takes a shape computed at run time")
    _apply(walk, node, labels)


def fix_squeeze(edit: Edit, node: onnx.NodeProto) -> None:
    """Without axes it takes out every axis of size 1: name those, so that a single channel left over stays an axis."""
    shape = edit.shape(node.input[0])
    given = edit.computed(node, 1) or edit.operand(node, 1, "axes") is not None
    if not given and any(edit.touched(node.input[0], axis) for axis in range(len(shape))):
        edit.set_operand(node, 1, "axes", [axis for axis, size in enumerate(shape) if size == 1], since=13)


@rule("Squeeze", fix=fix_squeeze)
def squeeze(walk: Walk, node: onnx.NodeProto) -> None:
    """Axes of size 1 go."""
    _apply(walk, node, walk.source(node, node.input[0]))


@rule("Flatten", "Unsqueeze")
def flatten(walk: Walk, node: onnx.NodeProto) -> None:
    """Shapes are inferred from the data's own: nothing to mend."""
    _apply(walk, node, walk.source(node, node.input[0]))


def _apply(walk: Walk, node: onnx.NodeProto, labels: np.ndarray) -> None:
    source, target = walk.shape(node.input[0]), walk.shape(node.output[0])
    reason = f"{node.op_type} {node.name!r} mixes channels with an axis of unknown size"
    walk.write(node.output[0], reshape_labels(walk, labels, source, target, reason))
