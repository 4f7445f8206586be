"""Gemm and MatMul: matrices that read one axis and make another."""

from __future__ import annotations

import numpy as np
import onnx

from ..labels import collapse, varying
from ..protos import attribute
from ..walk import Walk
from .contraction import Factor, contract
from .registry import rule


def read_rows(walk: Walk, node: onnx.NodeProto, data: str, axis: int, weight: str, rows: int) -> np.ndarray:
    """Tie the data's contracted axis to the weight's `rows` axis; give the data's labels without that axis."""
    labels, size = walk.labels(data), walk.shape(weight)[rows]
    axis %= labels.ndim
    others = [other for other in varying(labels) if other != axis]
    if axis in varying(labels) and others:
        labels = walk.tie(labels, others)
    if axis in varying(labels) or not others:
        along = collapse(labels, [axis]).ravel()
        walk.consume(node, weight, rows, np.broadcast_to(along, (size,)))
    return collapse(labels, others) if others else labels[(slice(0, 1),) * labels.ndim]


def make_columns(
    walk: Walk, node: onnx.NodeProto, rest: np.ndarray, axis: int, weight: str, columns: int
) -> np.ndarray:
    """Labels of the product: fresh on `axis`, unless the data carries channels on an axis that stays (a mixer's tokens
    are mixed, its channels stay)."""
    size = walk.shape(weight)[columns]
    if varying(rest):
        walk.crossed = True
        if walk.crosswise:
            rest = walk.tie(rest, varying(rest))
    if varying(rest):
        made = walk.stays(1, f"{node.op_type} {node.name!r} leaves channels on another axis")
        walk.produce(node, weight, columns, np.broadcast_to(made, (size,)))
        return rest
    made = walk.fresh(size) if size > 1 else walk.stays(1, f"{node.op_type} {node.name!r} has a single output")
    walk.produce(node, weight, columns, made)
    shape = [1] * rest.ndim
    shape[axis] = size
    return made.reshape(shape)


@rule("Gemm")
def gemm(walk: Walk, node: onnx.NodeProto) -> None:
    """Y = alpha A' B' + beta C with a constant B (outputs on its columns) or a constant A (outputs on its rows)."""
    left, right = node.input[:2]
    trans_a, trans_b = bool(attribute(node, "transA", 0)), bool(attribute(node, "transB", 0))
    reason = f"Gemm {node.name!r} multiplies two computed matrices"
    if walk.is_constant(right) and not walk.is_constant(left):
        rest = read_rows(walk, node, left, 0 if trans_a else 1, right, 1 if trans_b else 0)
        made = make_columns(walk, node, rest.T if trans_a else rest, 1, right, 0 if trans_b else 1)
    elif walk.is_constant(left) and not walk.is_constant(right):
        rest = read_rows(walk, node, right, 1 if trans_b else 0, left, 0 if trans_a else 1)
        made = make_columns(walk, node, rest.T if trans_b else rest, 0, left, 1 if trans_a else 0)
    else:
        for name in (left, right):
            if not walk.is_constant(name):
                walk.freeze(walk.labels(name), reason)
        made = walk.stays(2, reason)
    if len(node.input) > 2 and node.input[2]:
        _addend(walk, node, node.input[2], made)
    walk.write(node.output[0], walk.atoms.find(made))


def _addend(walk: Walk, node: onnx.NodeProto, name: str, made: np.ndarray) -> None:
    shape = walk.shape(name)
    if not walk.is_constant(name):
        reason = f"Gemm {node.name!r} adds a computed matrix"
        walk.freeze(made, reason)
        walk.freeze(walk.labels(name), reason)
        return
    padded = (1,) * (2 - len(shape)) + tuple(shape)
    for axis in varying(made):
        if padded[axis] != 1:
            walk.produce(node, name, axis - (2 - len(shape)), collapse(made, [axis]))


@rule("MatMul", repeats=True)
def matmul(walk: Walk, node: onnx.NodeProto) -> None:
    """A constant matrix on either side, or two computed ones that contract an axis together."""
    left, right = node.input[:2]
    matrix = right if walk.is_constant(right) else left
    data = left if walk.is_constant(right) else right
    if walk.is_constant(matrix):
        if len(walk.shape(matrix)) != 2 or len(walk.shape(data)) < 2:
            reason = f"MatMul {node.name!r} has a stack of matrices or a vector as its constant"
            walk.give_up(node, reason)
            return
        on_right = matrix == right
        rest = read_rows(walk, node, data, -1 if on_right else -2, matrix, 0 if on_right else 1)
        made = make_columns(walk, node, rest, -1 if on_right else -2, matrix, 1 if on_right else 0)
        walk.write(node.output[0], walk.atoms.find(made))
        return
    a, b = Factor(walk.labels(left), walk.shape(left)), Factor(walk.labels(right), walk.shape(right))
    walk.write(node.output[0], contract(walk, node, a, b))
