"""Operators that change the shape and leave the order of the data: the labels are reshaped with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from ..edit import Edit
from ..labels import collapse, varying
from ..protos import Dim, Shape
from ..sizes import product, split
from ..walk import Walk
from .registry import rule

Block = tuple[list[int], list[int]]
"""Source axes and target axes that hold the same entries."""


def _blocks(source: Shape, target: Shape) -> tuple[list[Block], list[int], list[int]]:
    """Blocks matched from the left as far as sizes are known, and the axes that are left on both sides."""
    blocks: list[Block] = []
    i = j = 0
    while i < len(source) and j < len(target):
        ends = _grow(source, target, i, j)
        if ends is None:
            break
        blocks.append((list(range(i, ends[0])), list(range(j, ends[1]))))
        i, j = ends
    return blocks, list(range(i, len(source))), list(range(j, len(target)))


def _grow(source: Shape, target: Shape, i: int, j: int) -> tuple[int, int] | None:
    """Smallest ends of a block that starts at (i, j), or None when an unknown size is in the way.

    Sizes are products (`12*batch`): the smaller side takes its next axis.
    """
    a, b, end_i, end_j = source[i], target[j], i + 1, j + 1
    while a is not None and b is not None and a != b:
        if end_i < len(source) and (_magnitude(a) <= _magnitude(b) or end_j == len(target)):
            a, end_i = product([a, source[end_i]]), end_i + 1
        elif end_j < len(target):
            b, end_j = product([b, target[end_j]]), end_j + 1
        else:
            return None
    return (end_i, end_j) if a is not None and b is not None else None


def _magnitude(size: int | str) -> tuple[int, int]:
    count, symbols = split(size) if isinstance(size, str) else (size, "")
    return count, len(symbols and symbols.split("*"))


def match(source: Shape, target: Shape) -> list[Block]:
    """Blocks of axes that hold the same entries, matched from both ends; what no end explains is one block."""
    left, rest_i, rest_j = _blocks(source, target)
    if not rest_i and not rest_j:
        return left
    if not rest_i or not rest_j:  # trailing axes of size 1 belong to the last block
        blocks = left or [([], [])]
        blocks[-1] = (blocks[-1][0] + rest_i, blocks[-1][1] + rest_j)
        return blocks
    i0, j0 = rest_i[0], rest_j[0]
    mirrored, left_i, left_j = _blocks(source[i0:][::-1], target[j0:][::-1])
    size_i, size_j = len(rest_i), len(rest_j)
    right = [
        ([i0 + size_i - 1 - i for i in reversed(a)], [j0 + size_j - 1 - j for j in reversed(b)])
        for a, b in reversed(mirrored)
    ]
    middle = (rest_i[: len(left_i)], rest_j[: len(left_j)])
    return [*left, *([middle] if middle[0] or middle[1] else []), *right]


def reshape_labels(walk: Walk, labels: np.ndarray, source: Shape, target: Shape, reason: str) -> np.ndarray:
    """Labels of the same data under another shape."""
    axes = set(varying(labels))
    before, after = list(labels.shape), [1] * len(target)
    for inner, outer in match(source, target):
        if not axes & set(inner):
            continue
        found = _numbers([source[axis] for axis in inner], [target[axis] for axis in outer])
        if found is None:
            walk.freeze(labels, reason)
            return labels.ravel()[:1].reshape((1,) * len(target))
        for axis, size in zip(inner, found[0], strict=True):
            before[axis] = size
        for axis, size in zip(outer, found[1], strict=True):
            after[axis] = size
    full = walk.atoms.find(np.broadcast_to(labels, before).reshape(after))
    return collapse(full, varying(full))


def _numbers(source: Sequence[Dim], target: Sequence[Dim]) -> tuple[list[int], list[int]] | None:
    """Sizes of a block's axes as numbers, or None.

    A size that is not fixed may lead both sides: (batch, 768) and (12*batch, 64) hold the same entries for every image,
    (768,) and (12, 64) of them, one image after the other. Labels repeat with the images.
    """
    if any(isinstance(size, str) for size in (*source[1:], *target[1:])) or None in (*source, *target):
        return None
    whole = [split(side[0]) if isinstance(side[0], str) else (side[0], "") for side in (source, target)]
    if whole[0][1] != whole[1][1]:
        return None
    sizes, new = [whole[0][0], *source[1:]], [whole[1][0], *target[1:]]
    return (sizes, new) if math.prod(sizes) == math.prod(new) else None


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


@rule("Reshape", fix=fix_target, repeats=True)
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


@rule("Squeeze", fix=fix_squeeze, repeats=True)
def squeeze(walk: Walk, node: onnx.NodeProto) -> None:
    """Axes of size 1 go."""
    _apply(walk, node, walk.source(node, node.input[0]))


@rule("Flatten", "Unsqueeze", repeats=True)
def flatten(walk: Walk, node: onnx.NodeProto) -> None:
    """Shapes are inferred from the data's own: nothing to mend."""
    _apply(walk, node, walk.source(node, node.input[0]))


def _apply(walk: Walk, node: onnx.NodeProto, labels: np.ndarray) -> None:
    source, target = walk.shape(node.input[0]), walk.shape(node.output[0])
    reason = f"{node.op_type} {node.name!r} mixes channels with an axis of unknown size"
    walk.write(node.output[0], reshape_labels(walk, labels, source, target, reason))
