"""Finding the nodes that read channels through weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import cast

import numpy as np
import onnx
from onnx import numpy_helper

from ...graph.protos import attribute, tensor_shapes
from .matrices import BiasSite, Consumer
from .patches import Features, Window

__all__ = ["find_consumers", "weights_of"]


def weights_of(model: onnx.ModelProto, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Initializers by name, as arrays."""
    wanted = set(names)
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in wanted}


def find_consumers(model: onnx.ModelProto) -> dict[str, Consumer]:
    """Every node of the main graph that multiplies one input by a constant float matrix, by name, in graph order.

    Depthwise convolutions and BatchNormalizations are among them (each channel is a group of its own). Left out are
    nodes that compute both factors, weights that are not floating point, and batched matrices.
    """
    context = _Context(model)
    found: dict[str, Consumer] = {}
    for node in model.graph.node:
        build = _BUILDERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        consumer = build(node, context) if build else None
        if consumer is not None:
            found[node.name] = consumer
    return found


class _Context:
    """What the builders look up: shapes of constants, and who uses a tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
        for tensor in model.graph.initializer:
            if tensor.data_type in floats:
                self.shapes[tensor.name] = tuple(tensor.dims)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in set(node.input):
                self.users[name].append(node)
        self.outputs = {value.name for value in model.graph.output}
        self._sizes = tensor_shapes(model)

    def rank(self, tensor: str) -> int:
        """Number of axes, 0 where it is not known."""
        return len(self._sizes.get(tensor, ()))

    def spatial(self, tensor: str, rank: int) -> tuple[int | None, ...]:
        """The last `rank` sizes; None for those that are not known."""
        sizes = self._sizes.get(tensor, ())[2:]
        return tuple(size if isinstance(size, int) else None for size in sizes) or (None,) * rank

    def only_user(self, tensor: str) -> onnx.NodeProto | None:
        users = self.users[tensor]
        return users[0] if len(users) == 1 and tensor not in self.outputs else None

    def bias(self, node: onnx.NodeProto, outputs: int, scale: float = 1.0) -> BiasSite | None:
        """The node's own bias input, or the mean of a BatchNormalization behind it."""
        if not _lacks(node, 2):
            shape = self.shapes.get(node.input[2], ())
            return BiasSite(node.input[2], scale, shape) if shape and prod(shape) == outputs else None
        after = self.only_user(node.output[0])
        if (
            after is not None
            and after.op_type == "BatchNormalization"
            and self.shapes.get(after.input[3]) == (outputs,)
        ):
            return BiasSite(after.input[3], -1.0, (outputs,))
        return None

    def added(self, tensor: str, outputs: int, axis: int) -> BiasSite | None:
        """A constant that an Add puts on top, one value a channel; `axis` counts from the last."""
        after = self.only_user(tensor)
        if after is None or after.op_type != "Add":
            return None
        other = next((name for name in after.input if name != tensor), "")
        shape = self.shapes.get(other)
        if shape is None or prod(shape) != outputs or len(shape) < -axis or shape[axis] != outputs:
            return None
        return BiasSite(other, 1.0, shape)


def _lacks(node: onnx.NodeProto, position: int) -> bool:
    """Whether an optional input is left out."""
    return len(node.input) <= position or not node.input[position]


def _ints(node: onnx.NodeProto, name: str, default: Sequence[int]) -> tuple[int, ...]:
    return tuple(cast("Sequence[int]", attribute(node, name, default)))


def _number(node: onnx.NodeProto, name: str, default: float) -> float:
    return cast("float", attribute(node, name, default))


def _padding(
    node: onnx.NodeProto,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    sizes: Sequence[int | None],
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Padding before and after each axis; None where `auto_pad` makes it depend on a size that is not known."""
    automatic = attribute(node, "auto_pad", b"NOTSET")
    rank = len(kernel)
    if automatic == b"VALID":
        return (0,) * rank, (0,) * rank
    if automatic == b"NOTSET":
        pads = _ints(node, "pads", [0] * 2 * rank)
        return pads[:rank], pads[rank:]
    totals = []
    for k, stride, dilation, size in zip(kernel, strides, dilations, sizes, strict=True):
        if size is None and stride > 1:
            return None
        left_over = stride if size is None or size % stride == 0 else size % stride
        totals.append(max(0, (k - 1) * dilation + 1 - left_over))
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if automatic == b"SAME_UPPER" else (large, small)


def _conv(node: onnx.NodeProto, context: _Context) -> Consumer | None:
    shape = context.shapes.get(node.input[1])
    if shape is None or len(shape) < 3:
        return None
    kernel, rank = shape[2:], len(shape) - 2
    strides, dilations = _ints(node, "strides", [1] * rank), _ints(node, "dilations", [1] * rank)
    padding = _padding(node, kernel, strides, dilations, context.spatial(node.input[0], rank))
    if padding is None:
        return None
    groups = int(_number(node, "group", 1))
    return Consumer(
        node.name,
        node.op_type,
        node.input[0],
        node.output[0],
        node.input[1],
        shape,
        Window(kernel, strides, dilations, *padding, groups),
        context.bias(node, shape[0]),
    )


def _conv_transpose(node: onnx.NodeProto, context: _Context) -> Consumer | None:
    shape = context.shapes.get(node.input[1])
    if shape is None or len(shape) < 3 or attribute(node, "output_shape") is not None:
        return None
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    kernel, rank = shape[2:], len(shape) - 2
    dilations = _ints(node, "dilations", [1] * rank)
    padding = _padding(node, kernel, (1,) * rank, dilations, (None,) * rank)
    if padding is None:
        return None
    extra = _ints(node, "output_padding", [0] * rank)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    groups = int(_number(node, "group", 1))
    window = Window(
        kernel,
        (1,) * rank,
        dilations,
        tuple(r - p for r, p in zip(reach, padding[0], strict=True)),
        tuple(r - p + e for r, p, e in zip(reach, padding[1], extra, strict=True)),
        groups,
        _ints(node, "strides", [1] * rank),
    )
    return Consumer(
        node.name,
        node.op_type,
        node.input[0],
        node.output[0],
        node.input[1],
        shape,
        window,
        context.bias(node, shape[1] * groups),
    )


def _gemm(node: onnx.NodeProto, context: _Context) -> Consumer | None:
    shape = context.shapes.get(node.input[1])
    alpha = _number(node, "alpha", 1.0)
    if shape is None or attribute(node, "transA", 0) or alpha == 0:
        return None
    transposed = bool(attribute(node, "transB", 0))
    beta = _number(node, "beta", 1.0)
    bias = context.bias(node, shape[0 if transposed else 1], beta) if beta else None
    return Consumer(
        node.name,
        node.op_type,
        node.input[0],
        node.output[0],
        node.input[1],
        shape,
        Features(-1),
        bias,
        alpha=alpha,
        transposed=transposed,
    )


def _matmul(node: onnx.NodeProto, context: _Context) -> Consumer | None:
    left, right = (context.shapes.get(name) for name in node.input)
    shape = right or left
    data = node.input[0 if right else 1]
    if shape is None or len(shape) != 2 or context.rank(data) < 2:
        return None
    axis = -1 if right else -2
    return Consumer(
        node.name,
        node.op_type,
        data,
        node.output[0],
        node.input[1 if right else 0],
        shape,
        Features(axis),
        context.added(node.output[0], shape[1 if right else 0], axis),
        transposed=not right,
    )


def _normalization(node: onnx.NodeProto, context: _Context) -> Consumer | None:
    scale, offset, variance = (context.shapes.get(node.input[place]) for place in (1, 2, 4))
    rank = context.rank(node.input[0]) - 2
    if (
        scale is None
        or not scale == offset == variance
        or rank < 0
        or sum(map(bool, node.output)) > 1
        or attribute(node, "training_mode", 0)
    ):
        return None
    spread = numpy_helper.to_array(context.constants[node.input[4]]).astype(np.float64)
    ones, zeros = (1,) * rank, (0,) * rank
    return Consumer(
        node.name,
        node.op_type,
        node.input[0],
        node.output[0],
        node.input[1],
        scale,
        Window(ones, ones, ones, zeros, zeros, groups=scale[0]),
        BiasSite(node.input[2], 1.0, scale),
        alpha=1 / np.sqrt(spread + _number(node, "epsilon", 1e-5)),
    )


_BUILDERS: Mapping[str, Callable[[onnx.NodeProto, _Context], Consumer | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _normalization,
}
