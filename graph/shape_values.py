"""What is known of the integers that a graph computes from sizes, entry by entry and symbolically.

Exporters write `Shape -> Gather -> Mul -> Concat -> Reshape` where a size is dynamic. `shape_values` follows such
arithmetic: an entry is a number, a size such as `batch` or `12*batch`, or unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from .protos import Dim, Shape, attribute, opset, tensor_shapes
from .sizes import product, quotient

__all__ = ["INTEGERS", "Value", "integers", "shape_values"]

Value = np.ndarray
"""Array (dtype object) of `Dim`: what is known of a small integer scalar or vector. Truth values of comparisons too."""
INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
_LARGEST = 4096  # entries; shape arithmetic is never larger


def shape_values(model: onnx.ModelProto) -> dict[str, Value]:
    """Tensor -> what is known of it, for initializers and outputs that are small integer scalars or vectors.

    `model` must carry inferred shapes.
    """
    shapes, version = tensor_shapes(model), opset(model)
    values: dict[str, Value] = {}
    for tensor in model.graph.initializer:
        value = _value(tensor)
        if value is not None:
            values[tensor.name] = value
    for node in model.graph.node:
        value = _follow(node, values, shapes, version)
        if value is not None and value.ndim <= 1 and value.size <= _LARGEST:
            values[node.output[0]] = value
    return values


def integers(value: Value | None) -> list[int] | None:
    """The entries when every one is a known number."""
    if value is None or not all(isinstance(entry, int) and not isinstance(entry, bool) for entry in value.ravel()):
        return None
    return [int(entry) for entry in value.ravel()]


def _elementwise(operation: Callable[[Dim, Dim], Dim]) -> Callable[[Value, Value], Value]:
    return np.frompyfunc(operation, 2, 1)


def _numbers(operation: Callable[[int, int], int]) -> Callable[[Value, Value], Value]:
    def known(a: Dim, b: Dim) -> Dim:
        return operation(a, b) if isinstance(a, int) and isinstance(b, int) else None

    return _elementwise(known)


def _divide(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return int(a / b) if b else 0  # ONNX divides integers towards zero
    return quotient(a, b)


def _same(a: Dim, b: Dim) -> bool | None:
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    if a == b and a is not None:
        return True
    # A size is never negative; exporters compare with -1.
    return False if any(isinstance(entry, int) and entry < 0 for entry in (a, b)) and None not in (a, b) else None


_EQUAL = _elementwise(_same)
_WHERE = np.frompyfunc(lambda condition, a, b: None if condition is None else a if condition else b, 3, 1)
_ARITHMETIC = {
    "Add": _numbers(lambda a, b: a + b),
    "Sub": _numbers(lambda a, b: a - b),
    "Mul": _elementwise(lambda a, b: product([a, b])),
    "Div": _elementwise(_divide),
    "Max": _numbers(max),
    "Min": _numbers(min),
}


def _value(tensor: onnx.TensorProto) -> Value | None:
    if tensor.data_type not in INTEGERS or len(tensor.dims) > 1:
        return None
    if int(np.prod(tensor.dims, dtype=np.int64)) > _LARGEST:
        return None
    return _objects(numpy_helper.to_array(tensor).tolist())


def _objects(entries: Dim | list[Dim] | tuple[Dim, ...]) -> Value:
    """A scalar, or a vector of the entries."""
    out = np.empty(len(entries) if isinstance(entries, list | tuple) else (), dtype=object)
    out[...] = entries
    return out


def _follow(
    node: onnx.NodeProto, values: Mapping[str, Value], shapes: Mapping[str, Shape], version: int
) -> Value | None:
    """What is known of the node's first output, or None where this is not shape arithmetic."""
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        if shape is None:
            return None
        return _objects(shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))])
    operands = [values.get(name) for name in node.input if name]
    if not operands or operands[0] is None:
        return None
    data = operands[0]
    match node.op_type:
        case "Identity":
            return data
        case "Cast" if attribute(node, "to") in INTEGERS:  # fractions are another arithmetic
            return data
        case "Gather" if data.ndim:
            index = integers(operands[1])
            if index is None or attribute(node, "axis", 0) != 0 or any(not -len(data) <= i < len(data) for i in index):
                return None
            return data[np.reshape(index, operands[1].shape)] if operands[1].ndim else _objects(data[index[0]])
        case "Unsqueeze" if not data.ndim:
            return data.reshape(-1)
        case "Squeeze" if data.size == 1:
            return _objects(data.ravel()[0])
        case "Concat":
            return None if any(part is None or not part.ndim for part in operands) else np.concatenate(operands)
        case "Slice" if data.ndim:
            bounds = operands[1:] if version >= 10 else [_attribute_value(node, key) for key in ("starts", "ends")]
            start, end, _axes, step = (*(integers(part) for part in bounds), None, None)[:4]
            if not start or not end or len(start) != 1:
                return None
            return data[start[0] : end[0] : (step or [1])[0]]
        case "Reshape" if len(operands) > 1 and integers(operands[1]) in ([-1], [data.size]):
            return data.reshape(-1)
        case "Reshape" if len(operands) > 1 and integers(operands[1]) == [] and data.size == 1:
            return _objects(data.ravel()[0])
        case "ConstantOfShape" if integers(data) is not None and data.size == 1:
            fill = attribute(node, "value")
            count = int(data.ravel()[0])
            if fill is None or not np.issubdtype(fill.dtype, np.integer) or count > _LARGEST:
                return None
            return _objects([int(fill.ravel()[0])] * count)
        case "Equal" if operands[1] is not None:
            return _EQUAL(data, operands[1])
        case "Where" if len(operands) == 3 and operands[1] is not None and operands[2] is not None:
            return _WHERE(*operands)
        case operation if operation in _ARITHMETIC and len(operands) == 2 and operands[1] is not None:
            return np.asarray(_ARITHMETIC[operation](data, operands[1]), dtype=object)
    return None


def _attribute_value(node: onnx.NodeProto, key: str) -> Value | None:
    entries = attribute(node, key)
    return None if entries is None else _objects(tuple(entries))
