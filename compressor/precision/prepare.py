"""What a net needs before it is quantized: BatchNormalization folded, an opset that has the operators, named nodes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference, version_converter

from ...errors import ModelError

__all__ = ["is_quantized", "prepare"]

OLDEST_OPSET = 13
"""With it DequantizeLinear takes a scale for each channel."""


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether some tensor is quantized already."""
    quantized = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}
    return any(node.op_type in quantized for node in model.graph.node)


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with shapes inferred that onnxruntime's quantizer takes.

    Raises:
        ModelError: quantized already, or an opset that cannot be raised.
    """
    if is_quantized(model):
        raise ModelError("the model is quantized already; give the one it was made from, in fp32")
    out = onnx.ModelProto()
    out.CopyFrom(model)
    release = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if release < OLDEST_OPSET:
        try:
            out = version_converter.convert_version(out, OLDEST_OPSET)
        except (RuntimeError, version_converter.ConvertError) as error:
            raise ModelError(
                f"the model has opset {release}, int8 needs {OLDEST_OPSET}, and it cannot be converted: {error}"
            ) from error
    _fold_batchnorm(out.graph)
    taken = {node.name for node in out.graph.node}
    for place, node in enumerate(out.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{place}" if f"{node.op_type}_{place}" not in taken else f"node__{place}"
    return shape_inference.infer_shapes(out)


def _fold_batchnorm(graph: onnx.GraphProto) -> None:
    """Each BatchNormalization that alone reads a Conv goes into its weights and bias; others stay."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    makers = {name: node for node in graph.node for name in node.output}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or uses[conv.output[0]] > 1 or len(norm.output) > 1:
            continue
        needed = [*conv.input[1:], *norm.input[1:]]
        if not all(name in weights for name in needed) or any(uses[name] > 1 for name in conv.input[1:]):
            continue
        scale, shift, mean, variance = (numpy_helper.to_array(weights[name]) for name in norm.input[1:])
        epsilon = next((item.f for item in norm.attribute if item.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        weight = numpy_helper.to_array(weights[conv.input[1]])
        bias = numpy_helper.to_array(weights[conv.input[2]]) if len(conv.input) > 2 else np.zeros_like(mean)
        folded = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
        weights[conv.input[1]].CopyFrom(numpy_helper.from_array(folded.astype(weight.dtype), conv.input[1]))
        name = conv.input[2] if len(conv.input) > 2 else f"{norm.output[0]}_bias"
        tensor = numpy_helper.from_array(((bias - mean) * factor + shift).astype(weight.dtype), name)
        if len(conv.input) > 2:
            weights[name].CopyFrom(tensor)
        else:
            graph.initializer.append(tensor)
            conv.input.append(name)
        conv.output[0] = norm.output[0]
        makers[norm.output[0]] = conv
        graph.node.remove(norm)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
