"""How large a model is: parameters and multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx

from .protos import Shape, attribute, tensor_shapes

__all__ = ["macs", "node_macs", "parameters"]

_COUNTING = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)


def parameters(model: onnx.ModelProto) -> int:
    """Entries of all initializers but those that hold shapes, axes and the like."""
    return sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type not in _COUNTING)


def _size(shape: Shape) -> int:
    """Entries, with sizes that are not fixed (the batch) counted as one."""
    return math.prod(size if isinstance(size, int) else 1 for size in shape)


def node_macs(model: onnx.ModelProto) -> Mapping[str, int]:
    """Node name -> multiply-accumulates of one inference, for convolutions, matrix products and recurrent cells.

    Sizes that are not fixed count as one, so a dynamic batch means one image.
    """
    shapes = tensor_shapes(model)
    counts: dict[str, int] = {}
    for node in model.graph.node:
        known = [shapes.get(name) for name in (*node.input[:2], next(filter(None, node.output), ""))]
        if len(known) < 3 or any(shape is None for shape in known):
            continue
        data, weight, made = known
        match node.op_type:
            case "Conv":
                counts[node.name] = _size(made) * _size(weight[1:])
            case "ConvTranspose":
                counts[node.name] = _size(data) * _size(weight[1:])
            case "Gemm":
                inner = data[0 if attribute(node, "transA", 0) else 1]
                counts[node.name] = _size(made) * (inner if isinstance(inner, int) else 1)
            case "MatMul":
                counts[node.name] = _size(made) * _size(data[-1:])
            case "LSTM" | "GRU" | "RNN":  # every step multiplies the input and the state before
                counts[node.name] = _size(data[:2]) * (_size(weight) + _size(shapes.get(node.input[2], ())))
    return counts


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of one inference (`node_macs` summed)."""
    return sum(node_macs(model).values())
