"""Orders of removal, and the damage that goes with them."""

from itertools import pairwise

import numpy as np
import pytest
from onnx import numpy_helper

from ortrim.compressor.recovery.importance import METHODS, rank
from ortrim.compressor.recovery.moments import gather
from ortrim.compressor.recovery.refit import Refitter
from ortrim.errors import PlanError
from ortrim.graph import analyze, slim

CHAIN = "g (float[N,3,8,8] x) => (float[N,5,4,4] y) { a = Conv(x, w, b) n = Relu(a) y = Conv(n, v, d) }"
WEIGHTS = {"w": (8, 3, 3, 3), "b": (8,), "v": (5, 8, 3, 3), "d": (5,)}
NORMED = """g (float[N,3,8,8] x) => (float[N,5,4,4] y) {
    a = Conv(x, w) n = BatchNormalization(a, s, o, m, positive) h = Relu(n) y = Conv(h, v, d)
}"""


@pytest.fixture(scope="module")
def prepared(residual, images):
    analysis = analyze(residual)
    return residual, analysis, gather(residual, analysis, images, rows_per_column=10**6)


def scaled(model, tensor, axis, factors):
    """The model with entries of an initializer along `axis` multiplied."""
    out = type(model).FromString(model.SerializeToString())
    for item in out.graph.initializer:
        if item.name == tensor:
            shape = [-1 if place == axis else 1 for place in range(len(item.dims))]
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.reshape(factors, shape), tensor))
    return out


@pytest.mark.parametrize("method", METHODS)
def test_every_unit_goes_once(prepared, images, method):
    model, analysis, moments = prepared
    ranking = rank(model, analysis, method, moments, images={"x": images})
    assert set(ranking.order) == {group.name for group in analysis.groups}
    for group in analysis.groups:
        assert sorted(ranking.order[group.name]) == list(range(group.size))
        curve = [ranking.damage[group.name][width] for width in range(group.size, -1, -1)]
        assert curve[0] == 0
        assert all(a <= b for a, b in pairwise(curve))


# Activations know nothing of the weights that read them.
@pytest.mark.parametrize(
    ("method", "tensor", "axis"),
    [(method, "w", 0) for method in ("l1", "l2", "refit", "taylor", "activation")]
    + [(method, "v", 1) for method in ("l1", "l2", "refit", "taylor")],
)
def test_weak_channels_go_first(build, images, method, tensor, axis):
    factors = np.array([1, 1, 0.01, 1, 1, 0.001, 1, 1], np.float32)
    model = scaled(build(CHAIN, WEIGHTS), tensor, axis, factors)
    model = scaled(model, "b", 0, factors) if tensor == "w" else model
    analysis = analyze(model)
    ranking = rank(model, analysis, method, gather(model, analysis, images), images={"x": images})
    (order,) = ranking.order.values()
    assert set(order[:2]) == {5, 2}


def test_batch_normalization_scale(build, images):
    model = build(NORMED, {"w": (8, 3, 3, 3), "s": (8,), "o": (8,), "m": (8,), "positive": (8,), **WEIGHTS})
    factors = np.array([1, 1, 1, 0.01, 1, 1, 1, 0.1], np.float32)
    model = scaled(model, "s", 0, factors)
    (order,) = rank(model, analyze(model), "bn").order.values()
    assert order[:2] == (3, 7)


def test_damage_is_what_refitting_leaves(prepared, images, run):
    """Share of the variance after the addition, measured in onnxruntime."""
    model, analysis, moments = prepared
    ranking = rank(model, analysis, "refit", moments)
    refitter = Refitter(model, analysis, moments)
    for group in analysis.groups:
        if not group.removable:
            continue
        (node,) = group.consumers
        total = moments.tails[node].output
        (wanted,) = run(model, images, total)
        variance = wanted.var(axis=(0, 2, 3)).sum()
        for width in (9, 4, 0):
            removal = ranking.removal({group.name: width})
            (got,) = run(slim(refitter(removal), removal, analysis=analysis), images, total)
            error = ((got - wanted) ** 2).mean(axis=(0, 2, 3)).sum() / variance
            assert ranking.damage[group.name][width] == pytest.approx(error, rel=0.02)


def test_greedy_refitting_loses_less_than_norms(prepared):
    model, analysis, moments = prepared
    best = rank(model, analysis, "refit", moments).damage
    for method in ("l1", "l2", "activation", "random"):
        other = rank(model, analysis, method, moments).damage
        assert sum(best[g][w] for g in best for w in (4, 6, 8)) < sum(other[g][w] for g in best for w in (4, 6, 8))


def test_a_channel_that_another_carries_goes_first(build, images):
    """Two strong copies of one channel: norms keep both, refitting does not."""
    model = build(CHAIN, WEIGHTS)
    for item in model.graph.initializer:
        if item.name in ("w", "b"):
            values = numpy_helper.to_array(item).copy()
            values[6] = values[1] = 3 * values[1]
            item.CopyFrom(numpy_helper.from_array(values, item.name))
    analysis = analyze(model)
    moments = gather(model, analysis, images)
    (refit,) = rank(model, analysis, "refit", moments).order.values()
    (norm,) = rank(model, analysis, "l2", moments).order.values()
    assert refit[0] in (1, 6)
    assert set(norm[-2:]) == {1, 6}


def test_without_moments_there_is_no_damage(prepared):
    model, analysis, _ = prepared
    ranking = rank(model, analysis, "l2")
    assert ranking.damage == {}
    with pytest.raises(PlanError, match="calibration"):
        rank(model, analysis, "refit")
    with pytest.raises(PlanError, match="unknown importance 'magic'"):
        rank(model, analysis, "magic")


def test_random_follows_its_seed(prepared):
    model, analysis, _ = prepared
    orders = [rank(model, analysis, "random", seed=seed).order for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_widths_become_removals(prepared):
    model, analysis, _ = prepared
    ranking = rank(model, analysis, "l2")
    name = analysis.groups[1].name
    assert ranking.removal({name: 12}) == {}
    assert ranking.removal({name: 9}) == {name: ranking.order[name][:3]}
    with pytest.raises(PlanError, match="cannot keep 13"):
        ranking.removal({name: 13})
    with pytest.raises(PlanError, match="no group 'nowhere'"):
        ranking.removal({"nowhere": 1})
