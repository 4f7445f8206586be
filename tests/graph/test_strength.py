"""Cheaper operators compute the same, and leave the groups of channels as they were."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import checker, numpy_helper

from ortrim.graph import analyze, load, reduce_strength, slim, verify

SLOPES = {
    "at most 1": [-0.7, 0.0, 0.25, 1.0],
    "above 1": [0.3, 1.7, -2.0, 1.0],
    "all the same": [0.1, 0.1, 0.1, 0.1],
    "all the same, above 1": [1.5, 1.5, 1.5, 1.5],
}
OPERATORS = {
    "at most 1": ["Mul", "Max"],
    "above 1": ["Relu", "Sub", "Mul", "Add"],
    "all the same": ["LeakyRelu"],
    "all the same, above 1": ["LeakyRelu"],
}


def prelu(net, slope, shape=("n", 4, 6, 6)):
    """One PRelu whose output is the model's."""
    n = net(shape)
    return load(n.model(n.op("PRelu", "x", n.constant(np.array(slope, n.dtype)))))


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("kind", SLOPES)
def test_a_prelu_gives_the_same_numbers(net, kind):
    model = prelu(net, np.reshape(SLOPES[kind], (4, 1, 1)))
    before = model.SerializeToString()
    cheaper = reduce_strength(model)
    assert operators(cheaper) == OPERATORS[kind]
    assert model.SerializeToString() == before
    checker.check_model(cheaper, full_check=True)
    x = np.random.default_rng(0).standard_normal((3, 4, 6, 6)).astype(np.float32)
    x[0, :, 0] = [0.0, -0.0, 1e-38, -1e-38, 3e38, -3e38]
    assert np.array_equal(run(model, x), run(cheaper, x))


@given(
    slope=arrays(
        np.float32, st.sampled_from([(1,), (4, 1, 1), (4, 6, 6), (1, 4, 1, 1)]), elements=st.floats(-3, 3, width=32)
    ),
    x=arrays(np.float32, (2, 4, 6, 6), elements=st.floats(-1e6, 1e6, width=32)),
)
def test_any_slopes_give_the_same_numbers(net, slope, x):
    model = prelu(net, slope)
    cheaper = reduce_strength(model)
    assert "PRelu" not in operators(cheaper)
    assert np.array_equal(run(model, x), run(cheaper, x))


def test_slopes_that_nobody_reads_any_more_are_gone(net):
    (kept,) = reduce_strength(prelu(net, np.reshape(SLOPES["at most 1"], (4, 1, 1)))).graph.initializer
    assert numpy_helper.to_array(kept).ravel().tolist() == np.float32(SLOPES["at most 1"]).tolist()
    assert not reduce_strength(prelu(net, [0.25])).graph.initializer


@pytest.mark.parametrize("kind", SLOPES)
def test_channels_are_grouped_and_removed_as_before(net, kind):
    n = net(("n", 3, 8, 8))
    inner = n.op("PRelu", n.conv("x", 4), n.constant(np.float32(SLOPES[kind]).reshape(4, 1, 1)))
    model = load(n.model(n.head(n.op("PRelu", n.conv(inner, 6), n.weight(6, 1, 1)))))
    cheaper = reduce_strength(model)
    verify(model, cheaper, {})
    before, after = (analyze(one).groups for one in (model, cheaper))
    assert [(g.name, g.size, g.exact, g.removable) for g in before] == [
        (g.name, g.size, g.exact, g.removable) for g in after
    ]
    removal = {group.name: (0, 2) for group in after}
    small = slim(cheaper, removal)
    verify(cheaper, small, removal)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    assert np.allclose(run(small, x), run(slim(model, removal), x), rtol=1e-5)


def test_what_has_no_cheaper_form_stays_the_same_object(net):
    n = net()
    plain = load(n.model(n.head(n.relu(n.conv("x", 6)))))
    assert reduce_strength(plain) is plain
    n = net(dtype=np.float64)
    double = load(n.model(n.op("PRelu", "x", n.weight(3, 1, 1))))
    assert reduce_strength(double) is double
    n = net()
    computed = load(n.model(n.op("PRelu", "x", n.op("GlobalAveragePool", "x"))))
    assert reduce_strength(computed) is computed


def test_new_names_make_way_for_those_that_are_there(net):
    n = net()
    x = n.op("PRelu", "x", n.constant(np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1)))
    n.nodes[-1].name = "act"
    n.nodes.append(type(n.nodes[-1])(op_type="Neg", input=[x], output=["act/Mul"], name="act/Mul"))
    cheaper = reduce_strength(load(n.model("act/Mul")))
    checker.check_model(cheaper, full_check=True)
    assert len({node.name for node in cheaper.graph.node}) == 3
