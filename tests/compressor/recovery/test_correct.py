"""Quick corrections, and the damage that is left after them."""

import numpy as np
import pytest

from ortrim.compressor.recovery.correct import Corrector, OutputDeviation, repaired_damage
from ortrim.compressor.recovery.importance import rank
from ortrim.compressor.recovery.moments import gather
from ortrim.compressor.recovery.refit import Refitter, with_weights
from ortrim.graph import analyze, slim, verify


@pytest.fixture(scope="module")
def tools(residual, images):
    analysis = analyze(residual)
    moments = gather(residual, analysis, images[:64])
    corrector = Corrector(residual, analysis, moments, images[:64], samples=48)
    ranking = rank(residual, analysis, "refit", moments)
    return analysis, moments, ranking, corrector, OutputDeviation(residual, images[64:])


def test_a_corrected_net_is_the_slim_graph_and_closer(residual, tools):
    analysis, moments, ranking, corrector, error = tools
    removal = ranking.removal({group.name: 5 for group in analysis.groups if group.removable})
    alone = slim(Refitter(residual, analysis, moments)(removal), removal, analysis=analysis)
    corrected = corrector(removal)
    shapes = [{t.name: tuple(t.dims) for t in net.graph.initializer} for net in (alone, corrected)]
    assert shapes[0] == shapes[1]
    assert error(corrected) < 0.9 * error(alone) < error(slim(residual, removal, analysis=analysis))


def test_nothing_removed_is_the_original(residual, tools):
    analysis, *_, corrector, error = tools
    verify(residual, corrector({}), {}, analysis=analysis)
    assert error(residual) == 0


def test_error_is_relative_to_the_variance(residual, images):
    constant = with_weights(residual, {"head": np.zeros((5, 8), np.float32)})
    assert OutputDeviation(residual, images)(constant) > 0.9


def test_errors_are_seen_before_a_softmax(build, images):
    text = """g (float[N,3,8,8] x) => (float[N,5] y) {
        p = GlobalAveragePool(x) f = Flatten(p) z = Gemm(f, w) y = Softmax(z)
    }"""
    model = build(text, {"w": (3, 5)})
    (weight,) = (t for t in model.graph.initializer if t.name == "w")
    half = with_weights(model, {"w": 0.5 * np.frombuffer(weight.raw_data, np.float32).reshape(3, 5)})
    logits = OutputDeviation(model, images)(half)
    assert 0.2 < logits < 0.3 + logits * 0.1  # a quarter of the energy about zero, nearly that about the mean


def test_a_feature_that_varies_little_counts_as_much(build, images):
    model = build("g (float[N,3,8,8] x) => (float[N,2,8,8] y) { y = Conv(x, w) }", {"w": (2, 3, 1, 1)})
    (weight,) = (t for t in model.graph.initializer if t.name == "w")
    scales = np.float32([100, 1]).reshape(2, 1, 1, 1)
    values = scales * np.frombuffer(weight.raw_data, np.float32).reshape(2, 3, 1, 1)
    error = OutputDeviation(with_weights(model, {"w": values}), images)
    assert error(with_weights(model, {"w": values})) == 0
    blind = values * np.float32([1, 0]).reshape(2, 1, 1, 1)
    assert error(with_weights(model, {"w": blind})) > 0.45


def test_groups_that_are_not_asked_for_are_as_well_repaired_as_others(residual, tools):
    analysis, _, ranking, _, _ = tools
    first, *others = [group for group in analysis.groups if group.removable]
    widths = {group.name: (4, 8, group.size) for group in (first, *others)}
    asked = []

    def half_of_the_curve(name, width):
        asked.append((name, width))
        return ranking.damage[name][width] / 2

    damage = repaired_damage(half_of_the_curve, ranking, widths, points=1, asked={first.name})
    assert asked == [(first.name, 4)]
    for group in others:
        assert damage[group.name][8] == pytest.approx(ranking.damage[group.name][8] / 2)
        assert damage[group.name][group.size] == 0


def test_damage_is_the_error_of_one_group(residual, tools):
    analysis, _, ranking, corrector, error = tools
    group = next(group for group in analysis.groups if group.removable)
    seen = []

    def narrowed(name, width):
        return error(corrector(ranking.removal({name: width})))

    damage = repaired_damage(
        narrowed, ranking, {group.name: [0, 4, 8, 12]}, points=3, progress=lambda *at: seen.append(at)
    )
    assert damage[group.name][4] == pytest.approx(narrowed(group.name, 4))
    assert damage[group.name][12] == 0
    assert damage[group.name][0] > damage[group.name][4] > damage[group.name][8] > 0
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_widths_in_between_follow_the_unrepaired_curve(residual, tools):
    analysis, _, ranking, corrector, error = tools
    group = next(group for group in analysis.groups if group.removable)

    def narrowed(name, width):
        return error(corrector(ranking.removal({name: width})))

    (curve,) = repaired_damage(narrowed, ranking, {group.name: range(2, 13)}, points=2).values()
    measured = [curve[2], curve[11]]
    assert set(curve) == set(range(2, 13))
    assert all(measured[1] <= curve[width] <= measured[0] for width in range(2, 12))
    shares = {width: curve[width] / ranking.damage[group.name][width] for width in (2, 6, 11)}
    assert shares[6] == pytest.approx(np.interp(6, [2, 11], [shares[2], shares[11]]))
