"""Names for sizes that onnx's shape inference leaves open.

It gives every size that it cannot name a symbol of its own. Many follow from others: a Reshape holds as many entries
after as before. Naming them keeps the batch one symbol through a whole graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import onnx
from onnx import numpy_helper

from .protos import Dim, Shape, attribute, tensor_shapes
from .shape_values import Value, integers, shape_values
from .sizes import product, quotient

__all__ = ["name_sizes"]

_BROADCASTING = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "PRelu", "Where", "MatMul"),
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
}


def name_sizes(model: onnx.ModelProto) -> None:
    """Rename, in place, the symbols of inner tensors that are products of others, and fix those that are numbers."""
    names = _Names(model)
    for node in model.graph.node:
        names.read(node)
    for value in model.graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            size = names.meaning.get(dim.dim_param)
            if isinstance(size, int):
                dim.dim_value = size
            elif size is not None:
                dim.dim_param = size


class _Names:
    """What symbols mean, learnt node by node."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._shapes = tensor_shapes(model)
        self.meaning: dict[str, Dim] = {}
        inputs = (self._shapes.get(value.name, ()) for value in model.graph.input)
        self._given = {size for shape in inputs for size in shape if isinstance(size, str)}

    def read(self, node: onnx.NodeProto) -> None:
        shape = self._shapes.get(node.output[0]) if node.output else None
        fresh = [axis for axis, size in enumerate(shape or ()) if isinstance(size, str) and self._open(size)]
        if fresh:
            found = self._sizes(node, shape, fresh)
            self.meaning |= {shape[axis]: size for axis, size in found.items() if size is not None}

    def _open(self, size: str) -> bool:
        return size not in self._given and size not in self.meaning

    def _named(self, name: str) -> Shape | None:
        shape = self._shapes.get(name)
        return None if shape is None else tuple(self.meaning.get(size, size) for size in shape)

    def _sizes(self, node: onnx.NodeProto, shape: Shape, fresh: list[int]) -> Mapping[int, Dim]:
        """Axis -> what its size is."""
        source = self._named(node.input[0]) if node.input else None
        if node.op_type in _BROADCASTING:
            return _broadcast([self._named(name) for name in node.input if name], len(shape), fresh)
        if source is None:
            return {}
        match node.op_type:
            case "Reshape" if len(fresh) == 1:
                rest = product(size for axis, size in enumerate(self._named(node.output[0])) if axis != fresh[0])
                return {fresh[0]: quotient(product(source), rest)}
            case "Resize" if (axes := attribute(node, "axes")) is not None:
                touched = {axis % len(shape) for axis in axes}
                return {axis: source[axis] for axis in fresh if axis not in touched}
            case "Resize" | "Upsample":
                scales = next((s for name in node.input[1:] if len(s := self._factors.get(name, ())) == len(shape)), ())
                return {axis: source[axis] for axis in fresh if scales and scales[axis] == 1}
            case "Tile" if node.input[1] in self._values:
                repeats = self._values[node.input[1]].ravel().tolist()
                return {axis: product([source[axis], repeats[axis]]) for axis in fresh if len(repeats) == len(shape)}
            case "Expand" if node.input[1] in self._values:
                target = self._values[node.input[1]].ravel().tolist()
                rank = len(shape)
                own, wanted = ((1,) * (rank - len(side)) + tuple(side) for side in (source, target))
                plain = [axis for axis in fresh if 1 in (own[axis], wanted[axis])]
                return {axis: wanted[axis] if own[axis] == 1 else own[axis] for axis in plain}
            case "Slice" if len(node.input) > 3 and len(source) == len(shape):
                axes = integers(self._values.get(node.input[3]))
                touched = range(len(shape)) if axes is None else {axis % len(shape) for axis in axes}
                return {axis: source[axis] for axis in fresh if axis not in touched}
        return {}

    @cached_property
    def _values(self) -> Mapping[str, Value]:
        return shape_values(self._model)

    @cached_property
    def _factors(self) -> Mapping[str, list[float]]:
        """Small vectors of fractions: scales."""
        return {
            tensor.name: numpy_helper.to_array(tensor).tolist()
            for tensor in self._model.graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 1 and tensor.dims[0] <= 8
        }


def _broadcast(operands: list[Shape | None], rank: int, axes: list[int]) -> dict[int, Dim]:
    """Sizes on which all operands that do not broadcast agree.

    Two that differ by name may be equal all the same, or one of them 1: nothing is said of these.
    """
    if any(shape is None for shape in operands):
        return {}
    padded = [(1,) * (rank - len(shape)) + shape for shape in operands if len(shape) <= rank]
    found = {}
    for axis in axes:
        sizes = {shape[axis] for shape in padded} - {1}
        if len(sizes) == 1:
            found[axis] = sizes.pop()
    return found
