"""Shape operands made constant, with the batch (or any other size) unknown.

onnx-graphsurgeon folds what follows from constants; this file folds what follows from sizes (`shape_values`). What is
wholly known becomes an initializer; the shape operands of Reshape, Expand, Resize and the like become constants
wherever that means the same for every size: an entry that copies the input's own size becomes 0 (Reshape) or 1
(Expand), one entry that follows from the others becomes -1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from .protos import Dim, Shape, attribute, opset, tensor_shapes
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
            # onnx and onnxruntime multiply in different precision: both must arrive at the size.
            if not int(np.float32(own) * scale) == int(own * float(scale)) == wanted:
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
    folding = _Folding(model)
    for node in model.graph.node:
        folding.fold(node)
    return folding.finish()


class _Folding:
    """One pass over the nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._graph, self._opset = graph, opset(model)
        self._shapes, self._values = tensor_shapes(model), shape_values(model)
        self._types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
        self._types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
        self._initializers = {tensor.name for tensor in graph.initializer}
        self._sources = {
            size: (value.name, axis)
            for value in reversed(graph.input)
            for axis, size in reversed(list(enumerate(self._shapes.get(value.name, ()))))
            if isinstance(size, str)
        }
        """Symbol -> a graph input and its axis of that size."""
        self._inputs = {value.name for value in graph.input}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._replaced: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []
        self._changed = False

    def fold(self, node: onnx.NodeProto) -> None:
        value = self._values.get(node.output[0]) if node.output else None
        kind = self._types.get(node.output[0]) if node.output else None
        if integers(value) is not None and kind in INTEGERS:
            self._initializer(node.output[0], value.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)))
            self._replaced.add(node.output[0])
            return
        if value is not None and self._reads_several(node) and all(self._is_named(size) for size in value):
            self._concat(node.output[0], node.name, value.tolist())
            self._changed = True
            return
        if node.op_type == "Concat":
            self._drop_empty(node)
        for position, name in enumerate(node.input):
            if position > 0 and name not in self._initializers and self._values.get(name) is not None:
                self._operand(node, position, self._values[name])
        self._nodes.append(node)

    def finish(self) -> bool:
        """Put the nodes in place."""
        if self._replaced or len(self._nodes) != len(self._graph.node):
            copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self._nodes]
            del self._graph.node[:]
            self._graph.node.extend(copies)
        return self._changed or bool(self._replaced)

    def _operand(self, node: onnx.NodeProto, position: int, known: Value) -> None:
        source = self._shapes.get(node.input[0])
        match node.op_type, position:
            case "Reshape", 1 if not attribute(node, "allowzero", 0):
                self._set(node, 1, _reshape_operand(known, source))
            case "Expand", 1:
                operand = _expand_operand(known, source)
                if operand is None:
                    self._shorten(node, known, source)
                self._set(node, 1, operand)
            case "Resize", 3 if attribute(node, "axes") is None:
                self._resize(node, known, source)
            case (("Slice" | "Pad" | "Tile" | "Split" | "Unsqueeze" | "Squeeze"), _):
                entries = integers(known)
                # All bounds of a Slice have one type.
                dtype = onnx.helper.tensor_dtype_to_np_dtype(self._types[node.input[position]])
                self._set(node, position, None if entries is None else np.array(entries, dtype=dtype))

    def _drop_empty(self, node: onnx.NodeProto) -> None:
        """Pieces without entries (a roll by nothing) add nothing: no rule could follow them."""
        axis = attribute(node, "axis", 1)
        shapes = [self._shapes.get(name) for name in node.input]
        kept = [name for name, shape in zip(node.input, shapes, strict=True) if shape is None or shape[axis] != 0]
        if 0 < len(kept) < len(node.input):
            del node.input[:]
            node.input.extend(kept)
            self._changed = True

    def _resize(self, node: onnx.NodeProto, known: Value, source: Shape | None) -> None:
        """Sizes of the stretched axes only where `axes` can say so, else scales."""
        if source is None or len(source) != len(known):
            return
        axes = [axis for axis, (wanted, own) in enumerate(zip(known, source, strict=True)) if wanted != own]
        if self._opset >= 18 and all(isinstance(known[axis], int) for axis in axes):
            self._set(node, 3, np.array([known[axis] for axis in axes], dtype=np.int64))
            node.attribute.append(onnx.helper.make_attribute("axes", axes, attr_type=onnx.AttributeProto.INTS))
            return
        scales = _resize_scales(known, source)
        if scales is not None:
            node.input[3] = ""
            self._set(node, 2, scales)
            while node.input and not node.input[-1]:
                node.input.pop()

    def _reads_several(self, node: onnx.NodeProto) -> bool:
        """A Shape of an inner tensor of which more than one size is wanted at a time: channels too, perhaps.

        Put together from sizes of graph inputs and numbers it no longer depends on how many channels there are.
        """
        if node.op_type != "Shape" or node.input[0] in self._inputs:
            return False
        return any(self._picked(reader) != 1 for reader in self._readers.get(node.output[0], ()))

    def _picked(self, reader: onnx.NodeProto) -> int:
        """How many sizes a reader of a shape takes; 0 where that is not known."""
        index = self._values.get(reader.input[1]) if reader.op_type == "Gather" else None
        return 0 if index is None else index.size

    def _is_named(self, size: Dim) -> bool:
        return isinstance(size, int) or size in self._sources

    def _shorten(self, node: onnx.NodeProto, known: Value, source: Shape | None) -> None:
        """Compute the target of an Expand with ones where it repeats the input's own, fixed size.

        These may then change without the target.
        """
        own = (1,) * (len(known) - len(source or ())) + (source or ())
        wanted = [1 if entry == size else entry for entry, size in zip(known, own, strict=False)]
        if source is None or wanted == known.tolist() or not all(map(self._is_named, wanted)):
            return
        node.input[1] = f"{node.output[0]}__target"
        self._concat(node.input[1], f"{node.name}/target", wanted)
        self._changed = True

    def _concat(self, output: str, name: str, sizes: Sequence[int | str]) -> None:
        """Compute a vector of sizes."""
        parts = [self._size(f"{output}__size{place}", size) for place, size in enumerate(sizes)]
        self._nodes.append(onnx.helper.make_node("Concat", parts, [output], name, axis=0))

    def _size(self, name: str, size: int | str) -> str:
        """A vector of one entry: the number, or the size of the graph input that the symbol stands for."""
        if isinstance(size, int):
            return self._initializer(name, np.array([size], dtype=np.int64))
        source, axis = self._sources[size]
        index = self._initializer(f"{name}__axis", np.array([axis], dtype=np.int64))
        self._nodes.append(onnx.helper.make_node("Shape", [source], [f"{name}__shape"], f"{name}/shape"))
        self._nodes.append(onnx.helper.make_node("Gather", [f"{name}__shape", index], [name], f"{name}/pick", axis=0))
        return name

    def _initializer(self, name: str, array: np.ndarray) -> str:
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _set(self, node: onnx.NodeProto, position: int, array: np.ndarray | None) -> None:
        """Give the node a constant operand of its own."""
        if array is None:
            return
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = self._initializer(f"{node.output[0]}__operand{position}", array)
        self._changed = True
