"""BatchNormalization re-estimated: what comes out is distributed as in the original."""

import numpy as np
import pytest
from onnx import numpy_helper

from ortrim.compressor.recovery.batchnorm import reestimate
from ortrim.graph import analyze, slim

TWICE = """g (float[N,3,8,8] x) => (float[N,5,4,4] y) {
    a = Conv(x, w, b) n = BatchNormalization(a, s, o, m, positive1) h = Relu(n)
    r = BatchNormalization(h, e, f, k, positive3) c = Conv(r, v, d) y = BatchNormalization(c, t, p, q, positive2)
}"""
SHAPES = {"w": (8, 3, 3, 3), "b": (8,), "s": (8,), "o": (8,), "m": (8,), "positive1": (8,)}
SHAPES |= {"e": (8,), "f": (8,), "k": (8,), "positive3": (8,)}
SHAPES |= {"v": (5, 8, 3, 3), "d": (5,), "t": (5,), "p": (5,), "q": (5,), "positive2": (5,)}
GONE = (1, 4, 6)
KEPT = [0, 2, 3, 5, 7]


def values_of(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def thinned(model):
    """What `reestimate` takes: the model, without three channels of its first convolution."""
    analysis = analyze(model)
    (group,) = (group for group in analysis.groups if group.size == 8)
    removal = {group.name: GONE}
    return slim(model, removal, analysis=analysis), removal, analysis


def with_value(model, name, change):
    """The model with one of its weights changed."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    return model


def test_outputs_have_the_moments_of_the_original_afterwards(build, images, run):
    """Whatever became of weights and scales meanwhile, and though none of it normalises these images."""
    model = build(TWICE, SHAPES)
    small, removal, analysis = thinned(model)
    small = with_value(with_value(small, "w", lambda w: 0.7 * w), "e", lambda e: -2 * e)
    after = reestimate(model, small, removal, images, analysis=analysis)
    names = ("n", "r", "y")
    shown, said = run(model, images, *names), run(after, images, *names)
    assert shown[0].std(axis=(0, 2, 3)) != pytest.approx(np.abs(values_of(model)["s"]), rel=0.1)
    for name, ours, theirs in zip(names, said, shown, strict=True):
        kept = theirs if name == "y" else theirs[:, KEPT]
        assert ours.mean(axis=(0, 2, 3)) == pytest.approx(kept.mean(axis=(0, 2, 3)), abs=1e-3)
        assert ours.std(axis=(0, 2, 3)) == pytest.approx(kept.std(axis=(0, 2, 3)), rel=1e-3)


def test_a_net_that_lost_nothing_stays_what_it_is(build, images):
    model = build(TWICE, SHAPES)
    after = reestimate(model, model, {}, images, analysis=analyze(model))
    for name, value in values_of(after).items():
        np.testing.assert_allclose(value, values_of(model)[name], rtol=1e-4, atol=1e-5)


def test_nothing_but_statistics_changes(build, images):
    small, removal, analysis = thinned(model := build(TWICE, SHAPES))
    after = reestimate(model, small, removal, images, analysis=analysis)
    before, now = values_of(small), values_of(after)
    changed = {name for name in before if not np.array_equal(before[name], now[name])}
    assert {"q", "positive2"} <= changed <= {"m", "positive1", "k", "positive3", "q", "positive2"}
    assert small.graph.node == after.graph.node


def test_shared_statistics_are_left_alone(build, images):
    model = build(TWICE.replace("t, p, q, positive2", "t, p, q, q2"), {**SHAPES, "q2": (5,)})
    for node in model.graph.node:
        if node.output[0] == "y":
            node.input[4] = "q"
    small, removal, analysis = thinned(model)
    small = with_value(small, "w", lambda w: 0.7 * w)
    before, after = values_of(small), values_of(reestimate(model, small, removal, images, analysis=analysis))
    assert np.array_equal(before["q"], after["q"])
    assert not np.array_equal(before["m"], after["m"])


def test_channels_that_do_not_vary_keep_finite_statistics(build, images, run):
    model = with_value(build(TWICE, SHAPES), "w", lambda w: np.where(np.arange(8)[:, None, None, None] == 2, 0, w))
    small, removal, analysis = thinned(model)
    after = reestimate(model, small, removal, images, analysis=analysis)
    assert all(np.isfinite(value).all() for value in values_of(after).values())
    ours, theirs = run(after, images, "n")[0][:, 1], run(model, images, "n")[0][:, 2]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_net_without_any_comes_back_equal(residual, images):
    assert reestimate(residual, residual, {}, images, analysis=analyze(residual)) == residual
