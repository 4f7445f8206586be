"""Predicted latency of plans: shapes follow the plan, figures follow the table."""

from __future__ import annotations

import pytest

from ortrim.compressor.search.prediction import Prediction
from ortrim.errors import NothingToPruneError
from ortrim.graph import slim
from ortrim.runtime import layer_shapes


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


def test_prediction_needs_layers(parts):
    _, analysis, prediction = parts
    with pytest.raises(NothingToPruneError):
        Prediction(analysis, {}, prediction._table)
