"""Predicted latency of plans: shapes follow the plan, figures follow the table."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.compressor.recovery.importance import Ranking
from ortrim.compressor.search.candidates import build_space, prunable_groups, width_candidates
from ortrim.compressor.search.prediction import Prediction
from ortrim.errors import InputError, NothingToPruneError
from ortrim.graph import analyze, load, slim
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
    model = residual_net()
    analysis = analyze(model)
    return model, analysis, Prediction(analysis, layer_shapes(model), Staircase())


def test_the_whole_net_has_ratio_one(parts):
    _, analysis, prediction = parts
    assert prediction.ratio({group.name: group.size for group in analysis.groups}) == pytest.approx(1)


def test_narrowed_shapes_are_those_of_the_slim_model(parts):
    model, analysis, prediction = parts
    plan = {group.name: group.size - 5 for group in analysis.groups}
    small = slim(model, {group.name: range(5) for group in analysis.groups}, analysis=analysis)
    found = {layer.node: layer.narrowed(plan, prediction.sizes) for layer in prediction.layers}
    assert found == layer_shapes(small)


def test_a_branch_that_goes_costs_nothing(parts):
    _, analysis, prediction = parts
    (branch,) = (group for group in analysis.groups if group.removable)
    gone = {
        layer.node
        for layer in prediction.layers
        if layer.narrowed({**prediction.sizes, branch.name: 0}, prediction.sizes) is None
    }
    assert gone == {"expand", "depth", "project"}


def test_figures_are_scans_along_one_side(parts):
    """A layer narrowed on both sides is composed of two scans, so that figures stay linear in the widths."""
    _, analysis, prediction = parts
    plan = {group.name: group.size // 2 for group in analysis.groups}
    prediction.ratio(plan)
    full = {layer.node: layer.shape for layer in prediction.layers}
    for shape in prediction._table.asked:
        same = [s for s in full.values() if s.kernel == shape.kernel and s.op == shape.op]
        assert any(shape.c_in == s.c_in or shape.c_out == s.c_out or shape.group > 1 for s in same)


def test_only_steps_are_offered(parts):
    _, analysis, prediction = parts
    ranking = Ranking({group.name: tuple(range(group.size)) for group in analysis.groups})
    space = build_space(analysis, analysis.groups, prediction, ranking, 0.7)
    offered = {choice.group: choice.widths for choice in space.choices}
    assert offered["stem"] == (8, 16)
    assert offered["expand"] == (0, 8, 16, 24, 32)


def test_a_flat_device_leaves_nothing_to_prune(parts):
    class Flat:
        def milliseconds(self, shape):
            return 1.0

    model, analysis, _ = parts
    groups = [group for group in analysis.groups if not group.removable]
    ranking = Ranking({group.name: tuple(range(group.size)) for group in analysis.groups})
    with pytest.raises(NothingToPruneError, match="no narrower width"):
        build_space(analysis, groups, Prediction(analysis, layer_shapes(model), Flat()), ranking, 0.7)


def test_keep_patterns(parts):
    _, analysis, _ = parts
    assert [group.name for group in prunable_groups(analysis, ["dep*"])] == ["stem"]
    with pytest.raises(InputError, match="--keep 'nothing'"):
        prunable_groups(analysis, ["nothing"])
    with pytest.raises(NothingToPruneError, match="nothing to prune"):  # it reads one group and makes the other
        prunable_groups(analysis, ["expand"])


def test_candidates_are_few_and_include_both_ends(parts):
    _, analysis, _ = parts
    for group in analysis.groups:
        widths = width_candidates(group)
        assert widths == tuple(sorted(set(widths)))
        assert widths[-1] == group.size
        assert (widths[0] == 0) == group.removable
        assert len(widths) <= 18


def test_prediction_needs_layers():
    model = residual_net()
    with pytest.raises(NothingToPruneError):
        Prediction(analyze(model), {}, Staircase())


def test_model_is_valid():
    onnx.checker.check_model(residual_net(), full_check=True)
