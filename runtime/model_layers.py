"""Which layers a model has, as shapes that the table can measure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod

import numpy as np
import onnx
from onnx import helper

from .inputs import Shapes, feeds_for
from .layers import ACTIVATIONS, CONVOLUTIONS, PRODUCTS, LayerShape
from .session import PLAIN, Model, open_session, read_model

__all__ = ["layer_shapes"]

# onnxruntime folds or fuses these into the layer, so the activation behind them is still the layer's.
_TRANSPARENT = frozenset({"Add", "BatchNormalization"})


def layer_shapes(model: Model, shapes: Shapes | None = None) -> dict[str, LayerShape]:
    """The shape of every Conv, ConvTranspose, Gemm and MatMul with a constant weight, by the name of its node.

    Sizes are read off a run with random inputs, so computed paddings and reshapes are no obstacle. A node without a
    name goes by its first output. Layers inside `If` and `Loop` are left out, and so are those that are not float.

    Args:
        model: path, bytes or model.
        shapes: input name -> shape, for inputs with dynamic axes; axes that are left open are 1.

    Raises:
        ModelError: a model that cannot be read or run.
    """
    proto = read_model(model)
    weights = _constant_dims(proto)
    layers = [node for node in proto.graph.node if _is_layer(node, weights)]
    if not layers:
        return {}
    activations = _activations(proto, layers)
    arrays = _run_for(proto, {name for node in layers for name in (node.input[0], node.output[0])}, shapes)
    found = {}
    for node in layers:
        data, result = arrays[node.input[0]], arrays[node.output[0]]
        if data.dtype in (np.float16, np.float32, np.float64):
            activation = activations.get(node.output[0], "")
            found[node.name or node.output[0]] = _shape_of(node, weights[node.input[1]], data, result, activation)
    return found


def _constant_dims(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every constant tensor."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            dims[node.output[0]] = tuple(node.attribute[0].t.dims)
    return dims


def _is_layer(node: onnx.NodeProto, constants: Mapping[str, tuple[int, ...]]) -> bool:
    if node.domain not in ("", "ai.onnx") or len(node.input) < 2 or node.input[1] not in constants:
        return False
    return node.op_type in CONVOLUTIONS or (node.op_type in PRODUCTS and len(constants[node.input[1]]) == 2)


def _activations(model: onnx.ModelProto, layers: list[onnx.NodeProto]) -> dict[str, str]:
    """Output of a layer -> operator of the activation that follows it and nothing else does."""
    users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            users[name].append(node)
    outputs = {output.name for output in model.graph.output}
    found = {}
    for layer in layers:
        name = layer.output[0]
        while name not in outputs and len(users[name]) == 1:
            (user,) = users[name]
            name = user.output[0]
            if user.op_type in ACTIVATIONS:
                found[layer.output[0]] = user.op_type
            if user.op_type not in _TRANSPARENT:
                break
    return found


def _run_for(model: onnx.ModelProto, names: set[str], shapes: Shapes | None) -> dict[str, np.ndarray]:
    """The tensors of those names from one run of the model with random inputs."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    inputs = {value.name for value in model.graph.input}
    wanted = sorted(names)
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted if name not in inputs)
    session = open_session(probe, PLAIN)
    feeds = feeds_for(session, None, shapes, seed=0)
    results = dict(zip(session.outputs, session.run(feeds), strict=True))
    return {name: results[name] if name in results else feeds[name] for name in wanted}


def _shape_of(
    node: onnx.NodeProto, weight: tuple[int, ...], data: np.ndarray, result: np.ndarray, activation: str
) -> LayerShape:
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    kind = str(data.dtype)
    if node.op_type in PRODUCTS:
        c_out = result.shape[-1]
        c_in = prod(weight) // c_out  # whichever way round the weight is written
        return LayerShape(node.op_type, c_in, c_out, (result.size // c_out,), activation=activation, dtype=kind)
    rank = data.ndim - 2
    group = int(attributes.get("group", 1))
    strides = tuple(attributes.get("strides", (1,) * rank))
    dilations = tuple(attributes.get("dilations", (1,) * rank))
    kernel = weight[2:]
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    pads = tuple(attributes.get("pads", (0,) * (2 * rank)))
    if automatic.startswith("SAME"):
        pads = _same_pads(data.shape[2:], result.shape[2:], kernel, strides, dilations, node.op_type)
    return LayerShape(
        node.op_type,
        data.shape[1],
        result.shape[1],
        data.shape[2:],
        kernel=kernel,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
        activation=activation,
        batch=data.shape[0],
        dtype=kind,
    )


def _same_pads(
    size_in: tuple[int, ...],
    size_out: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    op: str,
) -> tuple[int, ...]:
    """Paddings that lead from one size to the other; which side gets the odd pixel makes no difference in time."""
    begins, ends = [], []
    for before, after, width, stride, dilation in zip(size_in, size_out, kernel, strides, dilations, strict=True):
        short, long = (after, before) if op == "Conv" else (before, after)
        total = max(0, (short - 1) * stride + dilation * (width - 1) + 1 - long)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return (*begins, *ends)
