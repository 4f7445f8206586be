"""Gemm, MatMul and embeddings: matrices that read one axis and make another."""

from __future__ import annotations

import numpy as np
import onnx

from ..labels import collapse, varying
from ..protos import attribute
from ..walk import Walk
from .elementwise import meet
from .registry import rule


def _read(walk: Walk, node: onnx.NodeProto, data: str, axis: int, weight: str, rows: int) -> np.ndarray:
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


def _make(walk: Walk, node: onnx.NodeProto, rest: np.ndarray, axis: int, weight: str, columns: int) -> np.ndarray:
    """Labels of the product: fresh on `axis`, unless the data carries channels on an axis that stays."""
    size = walk.shape(weight)[columns]
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
        rest = _read(walk, node, left, 0 if trans_a else 1, right, 1 if trans_b else 0)
        made = _make(walk, node, rest.T if trans_a else rest, 1, right, 0 if trans_b else 1)
    elif walk.is_constant(left) and not walk.is_constant(right):
        rest = _read(walk, node, right, 1 if trans_b else 0, left, 0 if trans_a else 1)
        made = _make(walk, node, rest.T if trans_b else rest, 0, left, 1 if trans_a else 0)
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
    rank = len(walk.shape(node.output[0]))
    matrix = right if walk.is_constant(right) else left
    data = left if walk.is_constant(right) else right
    if walk.is_constant(matrix):
        if len(walk.shape(matrix)) != 2 or len(walk.shape(data)) < 2:
            reason = f"MatMul {node.name!r} has a stack of matrices or a vector as its constant"
            walk.give_up(node, reason)
            return
        on_right = matrix == right
        rest = _read(walk, node, data, -1 if on_right else -2, matrix, 0 if on_right else 1)
        made = _make(walk, node, rest, -1 if on_right else -2, matrix, 1 if on_right else 0)
        walk.write(node.output[0], walk.atoms.find(made))
        return
    walk.write(node.output[0], _contract(walk, node, left, right, rank))


def _contract(walk: Walk, node: onnx.NodeProto, left: str, right: str, rank: int) -> np.ndarray:
    """Two computed tensors, as in attention: the contracted axis loses the same positions on both sides.

    There is no weight to zero on the way, so such a group is not exact. Along the stack axes (heads) both sides lose
    the same matrices, which leaves the others as they are.
    """
    a, b = walk.labels(left), walk.labels(right)
    reason = f"MatMul {node.name!r} multiplies two computed tensors"
    if a.ndim < 2 or b.ndim < 2:
        walk.freeze(a, reason)
        walk.freeze(b, reason)
        return walk.stays(rank, reason)
    a, b = _stacked(walk, a, rank), _stacked(walk, b, rank)
    stack, matrix = set(range(rank - 2)), {rank - 2, rank - 1}
    axes = {*varying(a), *varying(b)}
    if axes & stack and (walk.heads or not axes & matrix):
        sides = [
            (walk.tie(labels, matrix), (1,) * (rank - len(shape)) + shape[:-2] + (1, 1))
            for labels, shape in ((a, walk.shape(left)), (b, walk.shape(right)))
        ]
        return walk.atoms.find(meet(walk, node, *sides)[0])
    return _contract_matrices(walk, node, walk.tie(a, stack), walk.tie(b, stack), rank)


def _stacked(walk: Walk, labels: np.ndarray, rank: int) -> np.ndarray:
    """With the product's number of axes, and units on stack axes or on the matrix's, not on both."""
    labels = labels.reshape((1,) * (rank - labels.ndim) + labels.shape)
    return walk.choose(labels, range(rank - 2), (rank - 2, rank - 1))


def _contract_matrices(walk: Walk, node: onnx.NodeProto, a: np.ndarray, b: np.ndarray, rank: int) -> np.ndarray:
    reason = f"MatMul {node.name!r} multiplies two computed tensors"
    a_axes, b_axes = set(varying(a)), set(varying(b))
    inner_a, inner_b = rank - 1 in a_axes, rank - 2 in b_axes
    if inner_a and len(a_axes) > 1:
        a = walk.tie(a, [rank - 2])
    if inner_b and len(b_axes) > 1:
        b = walk.tie(b, [rank - 1])
    if inner_a and inner_b:
        walk.union(a.ravel(), b.ravel())
        walk.blur(a)
    elif inner_a:
        walk.freeze(a, reason)
    elif inner_b:
        walk.freeze(b, reason)
    outer_a, outer_b = rank - 2 in varying(a), rank - 1 in varying(b)
    if outer_a and outer_b:
        walk.freeze(a, f"MatMul {node.name!r} makes an outer product of channels")
        outer_a = False
    if outer_b:
        return b.reshape((1,) * (rank - 1) + (-1,))
    if outer_a:
        return a.reshape((1,) * (rank - 2) + (-1, 1))
    return walk.stays(rank, reason)
