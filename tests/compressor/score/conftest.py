"""Small models whose outputs are plain to see, and data for them."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ortrim.compressor.data import Dataset, InputSpec
from ortrim.compressor.data.dataset import TensorColumn
from ortrim.compressor.score import Scorer
from ortrim.runtime import Device

FLOAT, FLOAT16, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64

ONE_THREAD = Device("cpu", threads=1)


def model(nodes, inputs, outputs, **constants):
    """A model from `(op, inputs, outputs, attributes)` tuples."""
    graph = helper.make_graph(
        [helper.make_node(op, ins.split(), outs.split(), **attributes) for op, ins, outs, attributes in nodes],
        "test",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def linear(weight, activation=None):
    """x (N, features) -> x @ weight (N, classes), through an activation."""
    weight = np.asarray(weight, np.float32)
    nodes = [("MatMul", "x w", "z", {}), (activation or "Identity", "z", "y", {})]
    inputs = [("x", FLOAT, ["N", weight.shape[0]])]
    return model(nodes, inputs, [("y", FLOAT, ["N", weight.shape[1]])], w=weight)


def per_pixel(weight, height=4, width=5):
    """x (N, 1, H, W) -> (N, classes, H, W): a 1x1 convolution."""
    weight = np.asarray(weight, np.float32).reshape(-1, 1, 1, 1)
    shape = ["N", len(weight), height, width]
    return model([("Conv", "x w", "y", {})], [("x", FLOAT, ["N", 1, height, width])], [("y", FLOAT, shape)], w=weight)


def two_outputs(a, b):
    nodes = [("MatMul", "x a", "p", {}), ("MatMul", "x b", "q", {})]
    outputs = [("p", FLOAT, ["N", 3]), ("q", FLOAT, ["N", 3])]
    arrays = {"a": np.asarray(a, np.float32), "b": np.asarray(b, np.float32)}
    return model(nodes, [("x", FLOAT, ["N", 3])], outputs, **arrays)


def dataset(array, labels=None, class_names=(), network=None):
    array = np.asarray(array, np.float32)
    spec = InputSpec.from_model(network or linear(np.zeros((array.shape[1], 2))))
    labels = None if labels is None else np.asarray(labels, np.int64)
    return Dataset(spec, {"x": TensorColumn(array, spec.inputs[0])}, labels, Path("d.npz"), class_names)


def build(network, data, **options):
    return Scorer.build(network, data, ONE_THREAD, **options)


EYE = np.eye(3)


SAMPLES = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [2, 1, 0], [0, 1, 2]])
