"""Shape arithmetic, folded with the batch (or any other size) unknown.

Exporters write `Shape -> Gather -> Concat -> Reshape` where a size is dynamic. onnx-graphsurgeon folds what follows
from constants; this file follows sizes, entry by entry and symbolically where they are unknown. What is wholly known
becomes an initializer; the shape operands of Reshape, Expand, Resize and the like become constants wherever that means
the same for every size: an entry that copies the input's own size becomes 0 (Reshape) or 1 (Expand), one entry that
follows from the others becomes -1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from .protos import Dim, Shape, attribute, opset, tensor_shapes

__all__ = ["fold_shape_operands"]

Value = np.ndarray
"""Array (dtype object) of `Dim`: what is known of a small integer scalar or vector, entry by entry."""
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
_LARGEST = 4096  # entries; shape arithmetic is never larger


def _elementwise(operation: Callable[[int, int], int]) -> Callable[[Value, Value], Value]:
    def known(a: Dim, b: Dim) -> Dim:
        return operation(a, b) if isinstance(a, int) and isinstance(b, int) else None

    return np.frompyfunc(known, 2, 1)


_ARITHMETIC = {
    "Add": _elementwise(lambda a, b: a + b),
    "Sub": _elementwise(lambda a, b: a - b),
    "Mul": _elementwise(lambda a, b: a * b),
    "Div": _elementwise(lambda a, b: int(a / b) if b else 0),  # ONNX divides integers towards zero
    "Max": _elementwise(max),
    "Min": _elementwise(min),
}


def _value(tensor: onnx.TensorProto) -> Value | None:
    if tensor.data_type not in _INTEGERS or len(tensor.dims) > 1:
        return None
    if int(np.prod(tensor.dims, dtype=np.int64)) > _LARGEST:
        return None
    array = numpy_helper.to_array(tensor)
    out = np.empty(array.shape, dtype=object)
    out[...] = array.tolist()
    return out


def _vector(dims: tuple[Dim, ...]) -> Value:
    out = np.empty(len(dims), dtype=object)
    out[:] = dims
    return out


def _integers(value: Value | None) -> list[int] | None:
    """The entries when every one is known."""
    if value is None or not all(isinstance(entry, int) for entry in value.ravel()):
        return None
    return [int(entry) for entry in value.ravel()]


def _follow(node: onnx.NodeProto, values: dict[str, Value], shapes: dict[str, Shape], version: int) -> Value | None:
    """What is known of the node's first output, or None where this is not shape arithmetic."""
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        if shape is None:
            return None
        return _vector(shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))])
    operands = [values.get(name) for name in node.input if name]
    if not operands or operands[0] is None:
        return None
    data = operands[0]
    match node.op_type:
        case "Identity":
            return data
        case "Cast" if attribute(node, "to") in _INTEGERS:  # fractions are another arithmetic
            return data
        case "Gather":
            index = _integers(operands[1])
            if index is None or attribute(node, "axis", 0) != 0 or any(not -len(data) <= i < len(data) for i in index):
                return None
            return data[np.reshape(index, operands[1].shape)] if operands[1].ndim else _scalar(data[index[0]])
        case "Unsqueeze" if not data.ndim:
            return data.reshape(-1)
        case "Squeeze" if data.size == 1:
            return _scalar(data.ravel()[0])
        case "Concat":
            return None if any(part is None for part in operands) else np.concatenate(operands)
        case "Slice":
            bounds = operands[1:] if version >= 10 else [_attribute_value(node, key) for key in ("starts", "ends")]
            start, end, _axes, step = (*(_integers(part) for part in bounds), None, None)[:4]
            if not start or not end or len(start) != 1:
                return None
            return data[start[0] : end[0] : (step or [1])[0]]
        case "Reshape" if len(operands) > 1 and _integers(operands[1]) in ([-1], [len(data)]):
            return data.reshape(-1)
        case operation if operation in _ARITHMETIC and len(operands) == 2 and operands[1] is not None:
            return np.asarray(_ARITHMETIC[operation](data, operands[1]), dtype=object)
    return None


def _scalar(entry: Dim) -> Value:
    out = np.empty((), dtype=object)
    out[()] = entry
    return out


def _attribute_value(node: onnx.NodeProto, key: str) -> Value | None:
    entries = attribute(node, key)
    return None if entries is None else _vector(tuple(entries))


def _reshape_operand(value: Value, source: Shape | None) -> np.ndarray | None:
    target = []
    for axis, entry in enumerate(value):
        same = source is not None and axis < len(source) and isinstance(entry, str) and source[axis] == entry
        target.append(0 if same else entry)
    unknown = [axis for axis, entry in enumerate(target) if not isinstance(entry, int)]
    if len(unknown) > 1 or (unknown and -1 in target):
        return None
    for axis in unknown:
        target[axis] = -1
    return np.array(target, dtype=np.int64)


def _expand_operand(value: Value, source: Shape | None) -> np.ndarray | None:
    """An entry that copies the input's own size may be 1: Expand keeps the larger of the two."""
    if source is None or len(value) < len(source):
        return None
    padded = (1,) * (len(value) - len(source)) + source
    target = [1 if isinstance(e, str) and e == own else e for e, own in zip(value, padded, strict=True)]
    return np.array(target, dtype=np.int64) if all(isinstance(entry, int) for entry in target) else None


def _resize_scales(value: Value, source: Shape | None) -> np.ndarray | None:
    """Scales that mean the same as sizes whose leading entries copy the input's own, unknown sizes."""
    if source is None or len(source) != len(value):
        return None
    scales = []
    for wanted, own in zip(value, source, strict=True):
        if wanted is not None and wanted == own:
            scales.append(1.0)
        elif isinstance(wanted, int) and isinstance(own, int) and own:
            scale = np.float32(wanted / own)
            if int(np.floor(np.float32(own) * scale)) != wanted:
                return None
            scales.append(scale)
        else:
            return None
    return np.array(scales, dtype=np.float32)


def fold_shape_operands(model: onnx.ModelProto) -> bool:
    """Rewrite, in place, the shape operands that are known well enough; True when anything changed.

    What is wholly known becomes an initializer. `model` must carry inferred shapes. The nodes that computed the
    operands are left for a clean-up of dead nodes.
    """
    graph, shapes, version = model.graph, tensor_shapes(model), opset(model)
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    values: dict[str, Value] = {}
    initializers = {tensor.name for tensor in graph.initializer}
    for tensor in graph.initializer:
        value = _value(tensor)
        if value is not None:
            values[tensor.name] = value
    changed, replaced = False, set[str]()

    def operand(node: onnx.NodeProto, position: int, array: np.ndarray | None) -> None:
        nonlocal changed
        if array is None:
            return
        name = f"{node.output[0]}__operand{position}"
        graph.initializer.append(numpy_helper.from_array(array, name))
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = name
        changed = True

    for node in graph.node:
        value = _follow(node, values, shapes, version)
        if value is not None and value.ndim <= 1 and value.size <= _LARGEST:
            values[node.output[0]] = value
            if _integers(value) is not None and types.get(node.output[0]) in _INTEGERS:
                array = value.astype(onnx.helper.tensor_dtype_to_np_dtype(types[node.output[0]]))
                graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
                replaced.add(node.output[0])
                continue
        for position, name in enumerate(node.input):
            if position == 0 or name in initializers or values.get(name) is None:
                continue
            known, source = values[name], shapes.get(node.input[0])
            match node.op_type, position:
                case "Reshape", 1 if not attribute(node, "allowzero", 0):
                    operand(node, 1, _reshape_operand(known, source))
                case "Expand", 1:
                    operand(node, 1, _expand_operand(known, source))
                case "Resize", 3 if attribute(node, "axes") is None:
                    scales = _resize_scales(known, source)
                    if scales is not None:
                        node.input[3] = ""
                        operand(node, 2, scales)
                        while node.input and not node.input[-1]:
                            node.input.pop()
                case (("Slice" | "Pad" | "Tile" | "Split" | "Unsqueeze" | "Squeeze"), _):
                    entries = _integers(known)
                    dtype = onnx.helper.tensor_dtype_to_np_dtype(types[name])  # all bounds of a Slice have one type
                    if entries is not None:
                        operand(node, position, np.array(entries, dtype=dtype))
    for place in reversed(range(len(graph.node))):
        if replaced.intersection(graph.node[place].output):
            del graph.node[place]
    return changed or bool(replaced)
