"""BatchNormalization re-estimated: normalised is what comes out."""

import numpy as np
import pytest
from onnx import numpy_helper

from ortrim.compressor.recovery.batchnorm import reestimate

TWICE = """g (float[N,3,8,8] x) => (float[N,5,4,4] y) {
    a = Conv(x, w, b) n = BatchNormalization(a, s, o, m, positive1) h = Relu(n)
    c = Conv(h, v, d) y = BatchNormalization(c, t, p, q, positive2)
}"""
SHAPES = {"w": (8, 3, 3, 3), "b": (8,), "s": (8,), "o": (8,), "m": (8,), "positive1": (8,)}
SHAPES |= {"v": (5, 8, 3, 3), "d": (5,), "t": (5,), "p": (5,), "q": (5,), "positive2": (5,)}


def values_of(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_both_normalise_afterwards(build, images, run):
    model = build(TWICE, SHAPES)
    after = reestimate(model, images)
    seen, weights = dict(zip("ny", run(after, images, "n", "y"), strict=True)), values_of(after)
    for tensor, scale, shift in (("n", "s", "o"), ("y", "t", "p")):
        assert seen[tensor].mean(axis=(0, 2, 3)) == pytest.approx(weights[shift], abs=1e-3)
        assert seen[tensor].std(axis=(0, 2, 3)) == pytest.approx(np.abs(weights[scale]), rel=1e-3)


def test_nothing_but_moments_changes(build, images):
    model = build(TWICE, SHAPES)
    before, after = values_of(model), values_of(reestimate(model, images))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"m", "positive1", "q", "positive2"}
    assert model.graph.node == reestimate(model, images).graph.node


def test_shared_moments_are_left_alone(build, images):
    model = build(TWICE.replace("t, p, q, positive2", "t, p, q, q2"), {**SHAPES, "q2": (5,)})
    for node in model.graph.node:
        if node.output[0] == "y":
            node.input[4] = "q"
    before, after = values_of(model), values_of(reestimate(model, images))
    assert np.array_equal(before["q"], after["q"])
    assert not np.array_equal(before["m"], after["m"])


def test_a_net_without_any_comes_back_equal(residual, images):
    assert reestimate(residual, images) == residual
