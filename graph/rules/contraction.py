"""Products of two computed tensors, as in attention: MatMul without a weight, and Einsum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from ..labels import collapse, varying
from ..protos import Dim, Shape, attribute
from ..walk import Walk
from .elementwise import meet
from .registry import rule


@dataclass(frozen=True)
class Factor:
    """One side of a product: labels and sizes, stack axes first, the matrix's two axes last."""

    labels: np.ndarray
    shape: Shape


def contract(walk: Walk, node: onnx.NodeProto, a: Factor, b: Factor) -> np.ndarray:
    """Labels of `a @ b`: the contracted axis loses the same positions on both sides.

    There is no weight to zero on the way, so such a group is not exact. Along the stack axes (heads) both sides lose
    the same matrices, which leaves the others as they are.
    """
    rank = max(a.labels.ndim, b.labels.ndim, 2)
    reason = f"{node.op_type} {node.name!r} multiplies two computed tensors"
    if a.labels.ndim < 2 or b.labels.ndim < 2:
        walk.freeze(a.labels, reason)
        walk.freeze(b.labels, reason)
        return walk.stays(rank - (a.labels.ndim < 2) - (b.labels.ndim < 2), reason)
    a, b = _stacked(walk, a, rank), _stacked(walk, b, rank)
    stack, matrix = set(range(rank - 2)), {rank - 2, rank - 1}
    axes = {*varying(a.labels), *varying(b.labels)}
    if axes & stack and (walk.crosswise or not axes & matrix):
        sides = [(walk.tie(side.labels, matrix), (*side.shape[:-2], 1, 1)) for side in (a, b)]
        return walk.atoms.find(meet(walk, node, *sides)[0])
    return _contract_matrices(walk, node, walk.tie(a.labels, stack), walk.tie(b.labels, stack))


def _stacked(walk: Walk, side: Factor, rank: int) -> Factor:
    """With the product's number of axes, and units on stack axes or on the matrix's, not on both."""
    missing = (1,) * (rank - side.labels.ndim)
    labels = side.labels.reshape(missing + side.labels.shape)
    return Factor(walk.choose(labels, range(rank - 2), (rank - 2, rank - 1)), (*missing, *side.shape))


def _contract_matrices(walk: Walk, node: onnx.NodeProto, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    rank, reason = a.ndim, f"{node.op_type} {node.name!r} multiplies two computed tensors"
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
        walk.freeze(a, f"{node.op_type} {node.name!r} makes an outer product of channels")
        outer_a = False
    if outer_b:
        return b.reshape((1,) * (rank - 1) + (-1,))
    if outer_a:
        return a.reshape((1,) * (rank - 2) + (-1, 1))
    return walk.stays(rank, reason)


@rule("Einsum", repeats=True)
def einsum(walk: Walk, node: onnx.NodeProto) -> None:
    """One product with one contracted index is a matrix product of transposed tensors; anything else stays."""
    terms, result = _parse(attribute(node, "equation").decode())
    names = list(node.input)
    pattern = _Pattern.of(terms, result) if len(terms) == 2 else None
    if pattern is None or any(walk.is_constant(name) for name in names):
        walk.give_up(node, f"Einsum {node.name!r} is not a product of two computed tensors over one index")
        return
    order = ((*pattern.stack, pattern.left, pattern.inner), (*pattern.stack, pattern.inner, pattern.right))
    a, b = (_arranged(walk, name, term, wanted) for name, term, wanted in zip(names, terms, order, strict=True))
    made = contract(walk, node, a, b)
    letters = (*pattern.stack, pattern.left, pattern.right)
    kept = [axis for axis, letter in enumerate(letters) if letter in result]
    made = collapse(made, kept).reshape([made.shape[axis] for axis in kept])
    walk.write(node.output[0], made.transpose([[letters[axis] for axis in kept].index(letter) for letter in result]))


@dataclass(frozen=True)
class _Pattern:
    """Index letters of a matrix product. A side without a free index has `left` or `right` of its own, of size 1."""

    stack: tuple[str, ...]
    left: str
    inner: str
    right: str

    @staticmethod
    def of(terms: list[str], result: str) -> _Pattern | None:
        a, b = terms
        if any(len(set(term)) < len(term) for term in (a, b, result)):  # a diagonal
            return None
        inner = [letter for letter in a if letter in b and letter not in result]
        left, right = ([x for x in term if x not in other] for term, other in ((a, b), (b, a)))
        if len(inner) != 1 or len(left) > 1 or len(right) > 1 or not set(left + right) <= set(result):
            return None
        stack = tuple(letter for letter in a if letter in b and letter in result)
        return _Pattern(stack, *(left or "<"), inner[0], *(right or ">"))


def _parse(equation: str) -> tuple[list[str], str]:
    """Terms and result; an implicit result holds the letters that occur once, in alphabetical order."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    once = sorted(letter for letter in set(left) - {","} if left.count(letter) == 1)
    return terms, right if arrow else "".join(once)


def _arranged(walk: Walk, name: str, term: str, wanted: tuple[str, ...]) -> Factor:
    """A tensor with its axes in the order of `wanted`; letters that it lacks are axes of size 1."""
    labels, shape = walk.labels(name), walk.shape(name)
    present = [letter for letter in wanted if letter in term]
    labels = labels.transpose([term.index(letter) for letter in present])
    sizes: list[Dim] = [shape[term.index(letter)] if letter in term else 1 for letter in wanted]
    full = [labels.shape[present.index(letter)] if letter in present else 1 for letter in wanted]
    return Factor(labels.reshape(full), tuple(sizes))
