"""The small models that the cost of one layer is read off: a layer between two others, and the same two without it.

A model of one convolution alone would mostly measure what surrounds it. onnxruntime runs convolutions on x86 and arm64
in a blocked layout where the channel counts allow it, and puts a reordering wherever a blocked tensor meets a node that
reads the plain layout. So the layer stands between a producer P, a 1x1 convolution from one channel (blocked for
any number of outputs), and a consumer C, a 1x1 convolution whose stride leaves one pixel (next to no work, but it asks
for the layout that a convolution of that many channels wants). The cost is

    cost(L: a -> b) = time(P_a, L, C_b) - time(P_a, C_a)

which holds L and the reordering of its output, where C needs one. The reordering of its input is in both times, unless
L needs one that a convolution of `a` channels would not. So in a chain of layers each reordering is counted once, and
the sum of the costs is the time of the chain. (Measured on chains of six convolutions of 6 to 128 channels, off the
steps too: median error 0.5 %, rank correlation 0.999. Sum over MobileNetV2's layers: 97 % of its latency.) A layer in
int8 stands in the same place, every layer in QDQ form, so that onnxruntime runs P, L and C by its integer kernels and
rounding belongs to them.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .layers import PRODUCTS, LayerShape
from .quantized_layer import quantized_nodes

__all__ = ["control_model", "layer_model"]

_OPSET = 20  # the newest operator among the activations, Gelu, came with it
_IR_VERSION = 9
_RANDOM_VALUES = 4096  # weights repeat after so many: kernels do not look at values, and large layers are built quickly


def layer_model(shape: LayerShape) -> bytes:
    """P, the layer with its activation, C."""
    return _build(shape, with_layer=True)


def control_model(shape: LayerShape) -> bytes:
    """P and C of the layer's input."""
    return _build(shape, with_layer=False)


def _build(shape: LayerShape, with_layer: bool) -> bytes:
    quantized = shape.dtype == "int8"
    constants = _Constants("float32" if quantized else shape.dtype)
    nodes = [_producer(shape, constants)]
    channels, sizes = shape.c_in, shape.spatial
    if with_layer:
        nodes += _layer(shape, constants)
        channels, sizes = shape.c_out, shape.spatial_out
    nodes.append(_consumer(shape.op, nodes[-1].output[0], channels, sizes, constants))
    dims = [*shape.spatial, shape.c_in] if shape.op in PRODUCTS else [shape.batch, 1, *shape.spatial]
    if quantized:
        nodes = quantized_nodes(nodes, constants.initializers)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype("float32" if quantized else shape.dtype))
    x, y = helper.make_tensor_value_info("x", kind, dims), helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph(nodes, "layer", [x], [y], constants.initializers)
    opset = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION).SerializeToString()


def _producer(shape: LayerShape, constants: _Constants) -> onnx.NodeProto:
    """P: makes the layer's input, which Gemm and MatMul take in a layout without variants."""
    if shape.op in PRODUCTS:
        return helper.make_node("Relu", ["x"], ["produced"])
    ones = (1,) * len(shape.spatial)
    weights = [constants.weight(shape.c_in, 1, *ones), constants.weight(shape.c_in)]
    return helper.make_node("Conv", ["x", *weights], ["produced"])


def _consumer(op: str, name: str, channels: int, sizes: tuple[int, ...], constants: _Constants) -> onnx.NodeProto:
    """C: reads one pixel, or one number."""
    if op in PRODUCTS:
        return helper.make_node("Slice", [name, constants.integers(0, 0), constants.integers(1, 1)], ["y"])
    weight = constants.weight(1, channels, *(1 for _ in sizes))
    return helper.make_node("Conv", [name, weight], ["y"], strides=list(sizes))


def _layer(shape: LayerShape, constants: _Constants) -> list[onnx.NodeProto]:
    """The layer and its activation."""
    if shape.op == "MatMul":
        nodes = [helper.make_node("MatMul", ["produced", constants.weight(shape.c_in, shape.c_out)], ["made"])]
    elif shape.op == "Gemm":
        weights = [constants.weight(shape.c_out, shape.c_in), constants.weight(shape.c_out)]
        nodes = [helper.make_node("Gemm", ["produced", *weights], ["made"], transB=1)]
    else:
        first, second = (shape.c_out, shape.c_in) if shape.op == "Conv" else (shape.c_in, shape.c_out)
        weights = [constants.weight(first, second // shape.group, *shape.kernel), constants.weight(shape.c_out)]
        nodes = [
            helper.make_node(
                shape.op,
                ["produced", *weights],
                ["made"],
                strides=list(shape.strides),
                pads=list(shape.pads),
                dilations=list(shape.dilations),
                group=shape.group,
            )
        ]
    if shape.activation:
        bounds = [constants.scalar(0.0), constants.scalar(6.0)] if shape.activation == "Clip" else []
        nodes.append(helper.make_node(shape.activation, ["made", *bounds], ["active"]))
    return nodes


class _Constants:
    """Initializers in the making; each method adds one and gives its name."""

    def __init__(self, dtype: str) -> None:
        self.initializers: list[onnx.TensorProto] = []
        self._dtype = np.dtype(dtype)
        self._random = np.random.default_rng(0).standard_normal(_RANDOM_VALUES)

    def weight(self, *dims: int) -> str:
        """Random values, scaled so that the outputs of a layer stay near one."""
        return self._add((np.resize(self._random, dims) / np.sqrt(prod(dims[1:]))).astype(self._dtype))

    def scalar(self, value: float) -> str:
        return self._add(np.array(value, dtype=self._dtype))

    def integers(self, *values: int) -> str:
        return self._add(np.array(values, dtype=np.int64))

    def _add(self, values: np.ndarray) -> str:
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name
