"""Strength reduction: the same function in operators that cost less.

onnxruntime computes PRelu on a CPU number by number, without vector instructions: on noise a fifth of the time of
ESPNet and two thirds of that of MTCNN's output net, on photographs less. Its LeakyRelu, Mul and Max are vectorised, and
LeakyRelu is fused into the convolution before it. Whether a device gains by it is to be measured.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .load import ensure_loaded
from .protos import captured, copy_without_weights
from .sharing import free_name

__all__ = ["reduce_strength"]


def reduce_strength(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with operators of less cost in place of some; itself where there are none to replace.

    - PRelu with one slope a for all channels: LeakyRelu.
    - PRelu with slopes of at most 1: max(x, a x), by Mul and Max. (Where x >= 0 is a x <= x, where x < 0 is a x >= x.)
    - PRelu with other slopes: max(x, 0) + a (x - max(x, 0)), by Relu, Sub, Mul and Add.

    Of finite numbers all give the very numbers that PRelu gives (a zero may have another sign). Names of inputs,
    outputs, tensors and initializers are kept; the argument is left as it is.

    Raises:
        ModelError: the model cannot be loaded.
    """
    model = ensure_loaded(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    taken = {node.name for node in model.graph.node}.union(weights, *(node.output for node in model.graph.node))
    taken.update(value.name for value in model.graph.input)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        slope = weights.get(node.input[1]) if node.op_type == "PRelu" and node.domain in ("", "ai.onnx") else None
        if slope is not None and slope.data_type == TensorProto.FLOAT:
            nodes.extend(_prelu(node, numpy_helper.to_array(slope), taken))
        else:
            nodes.append(node)
    return model if nodes == list(model.graph.node) else _with(model, nodes)


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


def _with(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A copy with these nodes, without the weights that only those before did read.

    What a new node makes has the type and shape of its first operand.
    """
    out = copy_without_weights(model)
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    known = {value.name: value for value in (*model.graph.input, *model.graph.value_info)}
    made = {name for node in model.graph.node for name in node.output}
    for node in nodes:
        if node.output[0] not in made and node.input[0] in known:
            inner = out.graph.value_info.add()
            inner.CopyFrom(known[node.input[0]])
            inner.name = node.output[0]
            known[inner.name] = inner
    unread = {name for node in model.graph.node for name in node.input}
    unread -= {name for node in nodes for name in (*node.input, *captured(node))}
    unread -= {value.name for value in model.graph.output}
    out.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in unread)
    return out
