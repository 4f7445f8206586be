"""Which initializers are parameters.

- Weights and biases of Conv, ConvTranspose, Gemm, MatMul, Einsum, LSTM, GRU, RNN and PRelu, scales and biases of
  normalizations, tables that Gather reads rows of: float initializers in these places, and int8 ones behind a
  DequantizeLinear.
- A vector (one axis of more than one entry) that is added to or multiplied with the output of such a layer: biases,
  layer scales, and the scale and bias of a normalization that is written out. Reshape, Transpose and the like may lie
  between; so may a division of two computed tensors.

Everything else is a buffer: integers, shapes, constants of one entry, masks, tables of positions, anchors.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto

from ..stored import Stored

__all__ = ["trainable"]

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_WEIGHTS: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "Einsum": (0, 1, 2, 3),
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "PRelu": (1,),
    "Gather": (0,),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
}
_PASSING = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast"}


def trainable(model: onnx.ModelProto, stored: Mapping[str, Stored]) -> frozenset[str]:
    """Names of the initializers that are parameters; `stored` as `stored_weights` gives it."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {name: name for name, tensor in initializers.items() if tensor.data_type in FLOATS}
    weights.update((output, item.tensor) for output, item in stored.items())
    computed = {name for node in model.graph.node for name in node.output} - set(stored)
    found: set[str] = set()
    layered: set[str] = set()  # outputs of layers, and what only passes them on
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        used = [node.input[p] for p in _WEIGHTS.get(node.op_type, ()) if p < len(node.input)]
        used = [name for name in used if name in weights]
        if used:
            found.update(weights[name] for name in used)
            layered.update(node.output)
        elif node.op_type in ("Add", "Mul"):
            others = [name for name in inputs if name in layered]
            vectors = [name for name in inputs if name in weights and _is_vector(initializers[weights[name]])]
            if others and vectors:
                found.add(weights[vectors[0]])
                layered.update(node.output)
        elif (node.op_type in _PASSING and inputs and inputs[0] in layered) or (
            node.op_type == "Div" and computed.issuperset(inputs)
        ):
            layered.update(node.output)
    return frozenset(found)


def _is_vector(tensor: onnx.TensorProto) -> bool:
    return sum(size > 1 for size in tensor.dims) == 1
