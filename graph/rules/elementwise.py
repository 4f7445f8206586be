"""Operators that work position by position: one input passes its labels on, several must agree."""

from __future__ import annotations

import numpy as np
import onnx

from ..labels import collapse, varying
from ..protos import Dim
from ..walk import Walk
from .registry import rule

UNARY = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Sin", "Sinh", "Tan", "Tanh"),
    *("Ceil", "Floor", "Round", "Neg", "Reciprocal", "Sign", "Sqrt", "Exp", "Log", "Erf", "IsInf", "IsNaN", "Not"),
    *("Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Selu", "Shrink", "Sigmoid"),
    *("Softplus", "Softsign", "Swish", "ThresholdedRelu", "BitwiseNot"),
    *("Cast", "Clip", "Dropout", "Identity", "CastLike"),
)
NARY = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "PRelu", "Where"),
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "BitShift"),
    *("BitwiseAnd", "BitwiseOr", "BitwiseXor"),
)


@rule(*UNARY, repeats=True)
def unary(walk: Walk, node: onnx.NodeProto) -> None:
    """Labels pass through; Dropout's mask has them too."""
    for output in filter(None, node.output):
        walk.write(output, walk.labels(node.input[0]))


@rule("QuantizeLinear", "DequantizeLinear")
def quantization(walk: Walk, node: onnx.NodeProto) -> None:
    """One scale for the whole tensor passes labels through; a scale per channel is a follower."""
    labels = walk.labels(node.input[0])
    if node.output[0] in walk.stored:  # a weight: the node that reads it says what its axes are
        walk.write(node.output[0], labels)
        return
    axis = _attribute_axis(walk, node, labels.ndim)
    for parameter in node.input[1:]:
        shape = walk.shape(parameter) if parameter else ()
        if all(size == 1 for size in shape):
            continue
        if len(shape) > 1 or not walk.is_constant(parameter):
            walk.freeze(labels, f"{node.op_type} {node.name!r} scales in blocks, or by what is computed at run time")
        else:
            vector = walk.pin(labels, set(range(labels.ndim)) - {axis}, "is quantized per channel on another axis")
            walk.follow(node, parameter, 0, np.broadcast_to(vector.ravel(), shape))
    walk.write(node.output[0], labels)


def _attribute_axis(walk: Walk, node: onnx.NodeProto, rank: int) -> int:
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    return axis % rank if rank else 0


@rule(*NARY, repeats=True)
def nary(walk: Walk, node: onnx.NodeProto) -> None:
    """Computed operands with the same position on a channel axis go together; constants follow."""
    rank = len(walk.shape(node.output[0]))
    names = [name for name in node.input if name]
    computed = [name for name in names if not walk.is_constant(name)]
    if not computed:  # constants that could not be folded
        walk.write(node.output[0], walk.stays(rank, f"{node.op_type} {node.name!r} combines constants only"))
        return
    result, sizes = _aligned(walk, computed[0], rank)
    for name in computed[1:]:
        result, sizes = meet(walk, node, (result, sizes), _aligned(walk, name, rank))
    for name in names:
        if walk.is_constant(name):
            own = walk.shape(
                name
            )  # axes that the constant lacks, or has with size 1, broadcast: nothing to slice there
            tail = collapse(result, range(rank - len(own), rank)).reshape(result.shape[rank - len(own) :])
            walk.follow_elementwise(node, name, collapse(tail, [axis for axis, size in enumerate(own) if size != 1]))
    walk.write(node.output[0], walk.atoms.find(result))


def _aligned(walk: Walk, name: str, rank: int) -> tuple[np.ndarray, tuple[Dim, ...]]:
    """Labels and sizes with leading axes of size 1, as broadcasting has it."""
    labels, shape = walk.labels(name), walk.shape(name)
    missing = rank - labels.ndim
    return labels.reshape((1,) * missing + labels.shape), (1,) * missing + tuple(shape)


def meet(
    walk: Walk,
    node: onnx.NodeProto,
    left: tuple[np.ndarray, tuple[Dim, ...]],
    right: tuple[np.ndarray, tuple[Dim, ...]],
) -> tuple[np.ndarray, tuple[Dim, ...]]:
    """Labels and sizes of two operands combined.

    Where one operand has size 1 it broadcasts: the other may lose positions there without it. Everywhere else the two
    lose the same positions, so their labels merge.
    """
    (a, a_sizes), (b, b_sizes) = left, right
    sizes = tuple(y if x == 1 else x for x, y in zip(a_sizes, b_sizes, strict=True))
    over_a = {axis for axis in varying(b) if a_sizes[axis] == 1}
    over_b = {axis for axis in varying(a) if b_sizes[axis] == 1}
    if over_a and over_b:  # an outer product of channels: a position would belong to two units
        walk.freeze(a, f"{node.op_type} {node.name!r} combines channels on different axes")
        return b, sizes
    if not over_a and not over_b:
        if varying(a) or varying(b) or a_sizes == b_sizes:
            walk.union(a, b)
        return (a, sizes) if a.size >= b.size else (b, sizes)
    small, large, over = (a, b, over_a) if over_a else (b, a, over_b)
    others = set(varying(large)) - over
    if varying(small):  # labelled on an axis that both have: the larger can lose positions on that axis only
        large = walk.tie(large, over)
        walk.union(small, large)
        return large, sizes
    return (walk.tie(large, others) if others else large), sizes
