"""What a search may choose from: the groups that may change, and the widths that a device rewards."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.compressor.recovery.importance import Ranking
from ortrim.compressor.search.candidates import build_space, prunable_groups, width_candidates
from ortrim.compressor.search.prediction import Prediction
from ortrim.errors import InputError, NothingToPruneError
from ortrim.graph import analyze, load
from ortrim.runtime import layer_shapes


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


def joining_net(stem=16, beside=3):
    """A convolution whose channels are read together with others, which come from the input itself."""
    rng = np.random.default_rng(0)
    shapes = {"stem.w": (stem, beside, 3, 3), "reader.w": (8, stem + beside, 3, 3), "last.w": (5, 8, 1, 1)}
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "stem.w"], ["stem"], "stem", pads=[1] * 4),
        helper.make_node("Concat", ["stem", "x"], ["joined"], "join", axis=1),
        helper.make_node("Conv", ["joined", "reader.w"], ["read"], "reader", pads=[1] * 4),
        helper.make_node("Conv", ["read", "last.w"], ["out"], "last"),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, (1, beside, 8, 8))]
    graph = helper.make_graph(nodes, "net", inputs, [value("out", TensorProto.FLOAT, (1, 5, 8, 8))], weights)
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


class Blocks:
    """A table on which a layer costs three times as much where it reads channels that do not fill blocks of four."""

    def milliseconds(self, shape):
        return shape.c_in * shape.c_out * np.prod(shape.kernel) * (1 if shape.c_in % 4 == 0 else 3)


@pytest.mark.parametrize(
    ("stem", "beside", "wanted"),
    [
        (16, 3, {1, 5, 9, 13}),
        (32, 6, {2, 6, 10, 14, 18, 22, 26, 30}),
        (12, 3, {1, 5, 9}),
        (16, 8, set()),
    ],
)
def test_widths_fill_blocks_together_with_what_is_concatenated(stem, beside, wanted):
    model = joining_net(stem, beside)
    analysis = analyze(model)
    (group,) = (group for group in analysis.groups if group.producers == ("stem",))
    layers = Prediction(analysis, layer_shapes(model), Blocks()).layers_by_group[group.name]
    plain, widths = set(width_candidates(group)), set(width_candidates(group, layers))
    assert widths == plain | wanted


def test_a_width_that_fills_blocks_with_its_neighbours_is_offered():
    model = joining_net()
    analysis = analyze(model)
    prediction = Prediction(analysis, layer_shapes(model), Blocks())
    ranking = Ranking({group.name: tuple(range(group.size)) for group in analysis.groups})
    space = build_space(analysis, analysis.groups, prediction, ranking, 0.7)
    (stem,) = (choice for choice in space.choices if choice.size == 16)
    assert stem.widths == (1, 5, 9, 13, 16)
