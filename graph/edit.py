"""What a rule's `fix` sees while a model is slimmed: which positions are left, and how to mend a node's copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from .kept import Kept
from .protos import Shape, attribute, opset, tensor_shapes

__all__ = ["Edit"]


class Edit:
    """Kept positions of every tensor of the original, and new operands for the nodes of the slim copy.

    Args:
        model: the original (shapes, operands).
        kept: positions that are left.
    """

    def __init__(self, model: onnx.ModelProto, kept: Kept) -> None:
        self.opset = opset(model)
        self.operands: dict[str, onnx.TensorProto] = {}
        self.before: dict[str, list[onnx.NodeProto]] = {}
        """Name of a node -> nodes to put in front of it."""
        self._shapes = tensor_shapes(model)
        self._kept = kept
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}

    def shape(self, name: str) -> Shape:
        """Shape in the original."""
        return self._shapes[name]

    def knows(self, node: onnx.NodeProto) -> bool:
        """Whether the shapes of all its tensors are known; the analysis froze the node where they are not."""
        return all(name in self._shapes for name in (*node.input, *node.output) if name)

    def kept(self, name: str, axis: int) -> np.ndarray | None:
        """Positions that are left along an axis, ascending; None when all are."""
        return self._kept.along(name, axis)

    def touched(self, name: str, axis: int) -> bool:
        """Whether the axis loses positions."""
        return self.kept(name, axis) is not None

    def count(self, name: str, axis: int) -> int:
        """Positions left along an axis."""
        kept = self.kept(name, axis)
        return self.shape(name)[axis] if kept is None else len(kept)

    def renumber(self, name: str, axis: int, positions: Iterable[int]) -> np.ndarray:
        """New numbers of those `positions` of the original that are left, in the order given."""
        positions = np.fromiter(positions, dtype=np.int64)
        kept = self.kept(name, axis)
        if kept is None:
            return positions
        number = np.full(self.shape(name)[axis], -1)
        number[kept] = np.arange(len(kept))
        return number[positions][number[positions] >= 0]

    def constant(self, name: str) -> np.ndarray | None:
        """Values of an initializer of the original, or None."""
        tensor = self._initializers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def operand(self, node: onnx.NodeProto, position: int, key: str) -> list[int] | None:
        """Integers of input `position`, or of attribute `key` in older operator sets."""
        if position < len(node.input) and node.input[position]:
            values = self.constant(node.input[position])
            return None if values is None else [int(value) for value in values.ravel()]
        values = attribute(node, key)
        return None if values is None else [int(value) for value in values]

    def computed(self, node: onnx.NodeProto, position: int) -> bool:
        """Whether the operand is there but known at run time only."""
        return (
            position < len(node.input) and bool(node.input[position]) and node.input[position] not in self._initializers
        )

    def set_operand(self, node: onnx.NodeProto, position: int, key: str, values: Sequence[int], since: int = 0) -> None:
        """Write integers as input `position` (from operator set `since` on) or as attribute `key`."""
        if self.opset >= since:
            self.set_constant(node, position, np.array(values, dtype=np.int64))
        else:
            self.set_attribute(node, key, list(values))

    def set_constant(self, node: onnx.NodeProto, position: int, array: np.ndarray) -> None:
        """Give the node an operand of its own."""
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = self._add(f"{node.output[0]}__operand{position}", array)

    def set_attribute(self, node: onnx.NodeProto, key: str, value: object) -> None:
        self.remove_attribute(node, key)
        node.attribute.append(onnx.helper.make_attribute(key, value))

    def remove_attribute(self, node: onnx.NodeProto, key: str) -> None:
        for place, item in enumerate(node.attribute):
            if item.name == key:
                del node.attribute[place]
                return

    def gather_before(self, node: onnx.NodeProto, axis: int, indices: np.ndarray) -> None:
        """Let the node read these positions of its first input."""
        output = f"{node.output[0]}__picked{axis}"
        name = self._add(f"{output}__indices", indices.astype(np.int64))
        pick = onnx.helper.make_node("Gather", [node.input[0], name], [output], f"{node.name}/picked{axis}", axis=axis)
        self.before.setdefault(node.name, []).append(pick)
        node.input[0] = output

    def _add(self, wish: str, array: np.ndarray) -> str:
        name, number = wish, 1
        while name in self._initializers or name in self.operands:
            name, number = f"{wish}_{number}", number + 1
        self.operands[name] = numpy_helper.from_array(array, name)
        return name
