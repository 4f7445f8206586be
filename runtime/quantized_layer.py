"""The small models of `layer_model` in QDQ form, as onnxruntime's integer kernels want them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["quantized_nodes"]

_SCALE, _ZERO = np.float32(1 / 64), np.uint8(128)  # kernels do not look at values
_ABSORBED = ("Clip", "Relu")
"""Activations that rounding to an unsigned type does by the way."""
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantized_nodes(nodes: Iterable[onnx.NodeProto], initializers: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
    """The nodes with their tensors in uint8 and their weights in int8; a Relu or Clip goes into the rounding.

    Args:
        initializers: weights are replaced there, and scales added.
    """
    weights = {tensor.name: tensor for tensor in initializers}
    for name, values in (("scale", _SCALE), ("zero", _ZERO)):
        initializers.append(numpy_helper.from_array(np.array(values), name))
    renamed = {"x": "x.dq"}
    out = _rounded("x")
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[0] = renamed[node.input[0]]
        made = node.output[0]
        if node.op_type in _ABSORBED and node.input[0] != "x":
            renamed[made] = copy.input[0]
            continue
        if node.op_type in _WEIGHTED:
            for place, name in enumerate(node.input[1:], start=1):
                out.append(_weight(weights[name], node.op_type, place, initializers))
                copy.input[place] = f"{name}.dq"
        out.append(copy)
        out += _rounded(made)
        renamed[made] = f"{made}.dq"
    out.append(helper.make_node("Identity", [renamed["y"]], ["y.out"]))
    return _last_named_y(out)


def _rounded(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}.q"]),
        helper.make_node("DequantizeLinear", [f"{name}.q", "scale", "zero"], [f"{name}.dq"]),
    ]


def _weight(tensor: onnx.TensorProto, op: str, place: int, initializers: list[onnx.TensorProto]) -> onnx.NodeProto:
    """Dequantization of a weight, or of a bias, which is int32; the initializer takes the place of the float one."""
    values = numpy_helper.to_array(tensor)
    bias = place == 2
    axis = 1 if op in ("ConvTranspose", "MatMul") and not bias else 0
    channels = values.shape[axis]
    scales = np.full(channels, _SCALE * _SCALE if bias else _SCALE, np.float32)
    if bias:
        rounded = np.round(values / scales).astype(np.int32)
    else:
        rounded = np.clip(np.round(values / _SCALE), -127, 127).astype(np.int8)
    initializers.remove(tensor)
    for name, array in (
        (f"{tensor.name}.q", rounded),
        (f"{tensor.name}.scale", scales),
        (f"{tensor.name}.zero", np.zeros(channels, rounded.dtype)),
    ):
        initializers.append(numpy_helper.from_array(array, name))
    inputs = [f"{tensor.name}.{part}" for part in ("q", "scale", "zero")]
    return helper.make_node("DequantizeLinear", inputs, [f"{tensor.name}.dq"], axis=axis)


def _last_named_y(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The output keeps its name: what was called y inside is renamed."""
    for node in nodes:
        for places in (node.input, node.output):
            for place, name in enumerate(places):
                places[place] = {"y": "y.made", "y.out": "y"}.get(name, name)
    return nodes
