"""Strength reduction: the same function in operators that cost less.

onnxruntime computes PRelu on a CPU number by number, without vector instructions: on noise a fifth of the time of
ESPNet and two thirds of that of MTCNN's output net, on photographs less. Its LeakyRelu, Mul and Max are vectorised, and
LeakyRelu is fused into the convolution before it. Whether a device gains by it is to be measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .load import ensure_loaded
from .phases import Known, Strided, over_phases
from .protos import captured, copy_without_weights, tensor_shapes
from .sharing import free_name

__all__ = ["reduce_strength"]


def reduce_strength(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with operators of less cost in place of some; itself where there are none to replace.

    - PRelu with one slope a for all channels: LeakyRelu.
    - PRelu with slopes of at most 1: max(x, a x), by Mul and Max. (Where x >= 0 is a x <= x, where x < 0 is a x >= x.)
    - PRelu with other slopes: max(x, 0) + a (x - max(x, 0)), by Relu, Sub, Mul and Add.
    - A convolution of all phases of an image: one of the image (see `phases`).

    Of finite numbers the first three give the very numbers that PRelu gives (a zero may have another sign); the last
    adds the same products in another order. Names of inputs, outputs and of tensors that are still made are kept; the
    argument is left as it is.

    Raises:
        ModelError: the model cannot be loaded.
    """
    model = ensure_loaded(model)
    rewriting = _Rewriting(model)
    nodes = [new for node in model.graph.node for new in rewriting.of(node)]
    return model if nodes == list(model.graph.node) else _with(model, nodes, rewriting.weights)


class _Rewriting:
    """Other nodes for a model's, and their weights."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        makers = {name: node for node in graph.node for name in node.output}
        self._known = Known(makers, self.weights, tensor_shapes(model))
        self._taken = {node.name for node in graph.node}.union(self.weights, makers)
        self._taken.update(value.name for value in graph.input)

    def of(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What computes the same; the node itself where nothing is known to cost less."""
        plain = node.domain in ("", "ai.onnx")
        second = self.weights.get(node.input[1]) if plain and len(node.input) > 1 else None
        if second is None or second.data_type != TensorProto.FLOAT:
            return [node]
        match node.op_type:
            case "PRelu":
                return _prelu(node, numpy_helper.to_array(second), self._taken)
            case "Conv":
                strided = over_phases(node, self._known)
                return [node] if strided is None else [self._conv(node, strided)]
        return [node]

    def _conv(self, node: onnx.NodeProto, strided: Strided) -> onnx.NodeProto:
        weight = free_name(node.input[1], self._taken)
        self._taken.add(weight)
        self.weights[weight] = numpy_helper.from_array(strided.weight, weight)
        operands = [strided.image, weight, *node.input[2:]]
        return helper.make_node("Conv", operands, node.output, node.name, **strided.attributes)


def _prelu(node: onnx.NodeProto, slope: np.ndarray, taken: set[str]) -> list[onnx.NodeProto]:
    """What computes the same as a PRelu."""
    x, slopes = node.input
    (y,) = node.output
    if slope.size and np.all(slope == slope.flat[0]):
        return [helper.make_node("LeakyRelu", [x], [y], node.name, alpha=float(slope.flat[0]))]

    def inner(kind: str, *operands: str) -> onnx.NodeProto:
        """A node before the last; its tensor has its name."""
        wish = f"{node.name}/{kind}"
        name = wish if wish not in taken else free_name(wish, taken)
        taken.add(name)
        return helper.make_node(kind, operands, [name], name)

    if np.all(slope <= 1):
        scaled = inner("Mul", x, slopes)
        return [scaled, helper.make_node("Max", [x, scaled.name], [y], node.name)]
    above = inner("Relu", x)
    below = inner("Sub", x, above.name)
    scaled = inner("Mul", below.name, slopes)
    return [above, below, scaled, helper.make_node("Add", [above.name, scaled.name], [y], node.name)]


def _with(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], weights: Mapping[str, onnx.TensorProto]
) -> onnx.ModelProto:
    """A copy with these nodes, without what only those before did read.

    What a new node makes before the last has the type and shape of its first operand.
    """
    out = copy_without_weights(model)
    nodes, read = _live(nodes, {value.name for value in model.graph.output})
    del out.graph.node[:], out.graph.value_info[:]
    out.graph.node.extend(nodes)
    known = {value.name: value for value in (*model.graph.input, *model.graph.value_info)}
    made = {name for node in model.graph.node for name in node.output}
    for node in nodes:
        if node.output[0] not in made and node.input[0] in known:
            known[node.output[0]] = inner = onnx.ValueInfoProto()
            inner.CopyFrom(known[node.input[0]])
            inner.name = node.output[0]
    inside = {name for node in nodes for name in node.output}
    out.graph.value_info.extend(value for name, value in known.items() if name in inside)
    out.graph.initializer.extend(tensor for name, tensor in weights.items() if name in read)
    return out


def _live(nodes: list[onnx.NodeProto], read: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that something reads, in their order, and all that is read."""
    read, live = set(read), []
    for node in reversed(nodes):
        if read.intersection(node.output):
            read.update(node.input, captured(node))
            live.append(node)
    return live[::-1], read
