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


def phases(n, x, order, *, ends=2**31 - 1, chained=True, step=2):
    """The phases of an image as YOLOX takes it apart: by slices of rows, then of columns, or of both at once."""
    pieces = []
    for top, left in order:
        if chained:
            rows = n.op("Slice", x, *(n.integers(each) for each in (top, ends, 2, step)))
            pieces.append(n.op("Slice", rows, *(n.integers(each) for each in (left, ends, 3, step))))
        else:
            both = ((top, left), (ends, ends), (-2, -1), (step, step))
            pieces.append(n.op("Slice", x, *(n.integers(*each) for each in both)))
    return n.op("Concat", *pieces, axis=1, channels=n.channels[x] * len(pieces))


FOCUS = [(0, 0), (1, 0), (0, 1), (1, 1)]


@given(
    order=st.permutations(FOCUS),
    chained=st.booleans(),
    ends=st.sampled_from([12, 2**31 - 1, 2**63 - 1]),
    k=st.sampled_from([1, 2, 3, 5]),
    stride=st.sampled_from([1, 2]),
    before=st.booleans(),
)
def test_a_convolution_of_phases_is_one_of_the_image(net, order, chained, ends, k, stride, before):
    n = net((2, 3, 12, 12))
    image = n.relu(n.conv("x", 4)) if before else "x"
    model = load(n.model(n.relu(n.conv(phases(n, image, order, chained=chained, ends=ends), 5, k=k, stride=stride))))
    cheaper = reduce_strength(model)
    assert operators(cheaper) == ["Conv", "Relu"] * (2 if before else 1)
    assert len(cheaper.graph.initializer) == (4 if before else 2)
    checker.check_model(cheaper, full_check=True)
    verify(model, cheaper, {})
    x = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)
    np.testing.assert_allclose(run(cheaper, x), run(model, x), rtol=1e-4, atol=1e-5)
    assert [(g.name, g.size) for g in analyze(cheaper).groups] == [(g.name, g.size) for g in analyze(model).groups]


@pytest.mark.parametrize("size", [2, 3])
def test_space_to_depth_is_one_too(net, size):
    n = net(("n", 3, 12, 12))
    deep = n.op("SpaceToDepth", "x", blocksize=size, channels=3 * size * size)
    model = load(n.model(n.conv(deep, 5, bias=False)))
    cheaper = reduce_strength(model)
    assert operators(cheaper) == ["Conv"]
    x = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)
    np.testing.assert_allclose(run(cheaper, x), run(model, x), rtol=1e-4, atol=1e-5)


def test_what_else_reads_the_phases_still_has_them(net):
    n = net((2, 3, 12, 12))
    stacked = phases(n, "x", FOCUS)
    model = load(n.model(n.conv(stacked, 5), n.relu(stacked)))
    cheaper = reduce_strength(model)
    assert operators(cheaper).count("Slice") == 8
    assert next(node for node in cheaper.graph.node if node.op_type == "Conv").input[0] == "x"
    verify(model, cheaper, {})


@pytest.mark.parametrize(
    "odd",
    [
        {"order": FOCUS[:3]},
        {"order": [*FOCUS[:3], (0, 0)]},
        {"order": [(0, 0)] * 4, "step": 1},
        {"order": FOCUS, "ends": 10},
    ],
)
def test_other_pieces_of_an_image_stay(net, odd):
    n = net((2, 3, 12, 12))
    model = load(n.model(n.conv(phases(n, "x", **odd), 5)))
    assert reduce_strength(model) is model


@pytest.mark.parametrize("changed", [{"group": 4}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}])
def test_other_convolutions_of_phases_stay(net, changed):
    n = net((2, 3, 12, 12))
    weight = n.weight(8, 12 // changed.get("group", 1), 3, 3)
    model = load(n.model(n.op("Conv", phases(n, "x", FOCUS), weight, channels=8, **changed)))
    assert reduce_strength(model) is model


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
