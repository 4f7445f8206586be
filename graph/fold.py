"""Shape operands made constant, with the batch (or any other size) unknown.

onnx-graphsurgeon folds what follows from constants; this file folds what follows from sizes (`shape_values`). What is
wholly known becomes an initializer; the shape operands of Reshape, Expand, Resize and the like become constants
wherever that means the same for every size: an entry that copies the input's own size becomes 0 (Reshape) or 1
(Expand), one entry that follows from the others becomes -1.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from .protos import Shape, attribute, tensor_shapes
from .shape_values import INTEGERS, Value, integers, shape_values
from .sizes import product, quotient

__all__ = ["fold_shape_operands"]


def _reshape_operand(value: Value, source: Shape | None) -> np.ndarray | None:
    target = []
    for axis, entry in enumerate(value):
        same = source is not None and axis < len(source) and isinstance(entry, str) and source[axis] == entry
        target.append(0 if same else entry)
    unknown = [axis for axis, entry in enumerate(target) if not isinstance(entry, int)]
    if unknown and -1 in target:
        place = target.index(-1)
        rest = product(entry for axis, entry in enumerate(value) if axis != place)
        target[place] = None if source is None else quotient(product(source), rest)
        unknown = [axis for axis, entry in enumerate(target) if not isinstance(entry, int)]
    if len(unknown) > 1:
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
    graph, shapes, values = model.graph, tensor_shapes(model), shape_values(model)
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    initializers = {tensor.name for tensor in graph.initializer}
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
        value = values.get(node.output[0]) if node.output else None
        if integers(value) is not None and types.get(node.output[0]) in INTEGERS:
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
                    entries = integers(known)
                    dtype = onnx.helper.tensor_dtype_to_np_dtype(types[name])  # all bounds of a Slice have one type
                    if entries is not None:
                        operand(node, position, np.array(entries, dtype=dtype))
    for place in reversed(range(len(graph.node))):
        if replaced.intersection(graph.node[place].output):
            del graph.node[place]
    return changed or bool(replaced)
