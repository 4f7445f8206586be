"""Where a layer's output matters: the sum that it flows into, and what lies between."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import onnx
from onnx import numpy_helper

from ...graph.protos import attribute, tensor_shapes
from .matrices import Consumer

__all__ = ["Tail", "Tails"]


@dataclass(frozen=True)
class Tail:
    """The way from a consumer's output to the last tensor that depends on it by a factor a channel."""

    output: str
    """After the additions (residual sums) and BatchNormalizations that alone read it, each the next."""
    scale: np.ndarray | None = field(default=None, repr=False)
    """Factor of each output channel on the way; None is 1."""
    low: float | None = None
    """All that reads `output` is a Relu or Clip: values below are as good as this one."""
    high: float | None = None
    through: tuple[str, ...] = ()
    """Nodes on the way."""


class Tails:
    """Finds tails in one model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self._users[name].append(node)
        self._outputs = {value.name for value in model.graph.output}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._shapes = tensor_shapes(model)

    def of(self, consumer: Consumer) -> Tail:
        """The tail of a consumer of this model."""
        tensor, scale = consumer.output, None
        through: list[str] = []
        while (node := self._only_user(tensor)) is not None:
            if node.op_type == "Add" and self._same_shape(tensor, node.output[0]):
                tensor = node.output[0]
            elif node.op_type == "BatchNormalization" and consumer.output_axis == 1 and node.input[0] == tensor:
                factor = self._factor(node)
                if factor is None:
                    break
                scale = factor if scale is None else scale * factor
                tensor = node.output[0]
            elif node.op_type in ("Relu", "Clip") and node.input[0] == tensor:
                return Tail(tensor, scale, *self._bounds(node), tuple(through))
            else:
                break
            through.append(node.name)
        return Tail(tensor, scale, through=tuple(through))

    def _only_user(self, tensor: str) -> onnx.NodeProto | None:
        users = self._users[tensor]
        return users[0] if len(users) == 1 and tensor not in self._outputs else None

    def _same_shape(self, before: str, after: str) -> bool:
        """A sum that broadcasts has other rows than its operand."""
        return self._shapes.get(before) is not None and self._shapes.get(before) == self._shapes.get(after)

    def _factor(self, node: onnx.NodeProto) -> np.ndarray | None:
        if any(name not in self._constants for name in (node.input[1], node.input[4])):
            return None
        scale, variance = (numpy_helper.to_array(self._constants[node.input[i]]).astype(np.float64) for i in (1, 4))
        epsilon = cast("float", attribute(node, "epsilon", 1e-5))
        return scale / np.sqrt(variance + epsilon)

    def _bounds(self, node: onnx.NodeProto) -> tuple[float | None, float | None]:
        if node.op_type == "Relu":
            return 0.0, None
        low, high = (cast("float | None", attribute(node, name)) for name in ("min", "max"))
        if len(node.input) > 1 and node.input[1] in self._constants:
            low = numpy_helper.to_array(self._constants[node.input[1]]).item()
        if len(node.input) > 2 and node.input[2] in self._constants:
            high = numpy_helper.to_array(self._constants[node.input[2]]).item()
        return low, high
