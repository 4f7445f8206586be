"""A small net, and tables of what its layers would cost on made-up devices."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.compressor.search.prediction import Prediction
from ortrim.graph import analyze, load
from ortrim.runtime import LayerShape, layer_shapes


def residual_net(inner=32, stream=16):
    """Stem, one residual block with a depthwise convolution, classifier."""
    rng = np.random.default_rng(0)
    weights, nodes = [], []

    def conv(x, name, outputs, inputs, k, group=1):
        shape = (outputs, inputs // group, k, k)
        weights.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), f"{name}.w"))
        pads = [k // 2] * 4
        nodes.append(
            helper.make_node("Conv", [x, f"{name}.w"], [name], name, group=group, pads=pads, kernel_shape=[k, k])
        )
        nodes.append(helper.make_node("Relu", [name], [f"{name}.r"], f"{name}.relu"))
        return f"{name}.r"

    x = conv("x", "stem", stream, 3, 3)
    y = conv(
        conv(conv(x, "expand", inner, stream, 1), "depth", inner, inner, 3, group=inner), "project", stream, inner, 1
    )
    nodes.append(helper.make_node("Add", [x, y], ["sum"], "sum"))
    nodes.append(helper.make_node("GlobalAveragePool", ["sum"], ["pool"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"], "flat"))
    weights.append(numpy_helper.from_array(rng.standard_normal((stream, 5)).astype(np.float32), "fc.w"))
    nodes.append(helper.make_node("Gemm", ["flat", "fc.w"], ["out"], "fc"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [value("x", TensorProto.FLOAT, (1, 3, 8, 8))], [value("out", TensorProto.FLOAT, (1, 5))], weights
    )
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@dataclass
class Staircase:
    """A table that charges for blocks of eight channels on either side, and remembers what it was asked."""

    asked: set[LayerShape] = field(default_factory=set)

    def milliseconds(self, shape: LayerShape) -> float:
        self.asked.add(shape)
        c_in = 1 if shape.group > 1 else -(-shape.c_in // 8)
        return 0.001 * c_in * -(-shape.c_out // 8) * np.prod(shape.kernel)


@pytest.fixture
def parts():
    """The net, its analysis, and predictions by a `Staircase`."""
    model = residual_net()
    analysis = analyze(model)
    return model, analysis, Prediction(analysis, layer_shapes(model), Staircase())
