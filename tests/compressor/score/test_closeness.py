"""Closeness of outputs that are no classes."""

import numpy as np
import pytest

from .conftest import EYE, FLOAT, INT64, SAMPLES, build, dataset, model, two_outputs


def test_closeness_is_the_share_of_variation_kept():
    scorer = build(two_outputs(EYE, 2 * EYE), dataset(SAMPLES))
    assert (scorer.baseline.kind, scorer.baseline.detail) == ("agreement", "output error")
    score = scorer.score(two_outputs(0.9 * EYE, 2 * EYE))
    variation = ((SAMPLES - SAMPLES.mean(0)) ** 2).sum()
    error = ((0.1 * SAMPLES) ** 2).sum() / variation
    assert score.value == pytest.approx(1 - error / 2, rel=1e-5)
    assert score.soft == pytest.approx((1 / (1 + error) + 1) / 2, rel=1e-5)


def detector(confidence):
    """x (N, 3) -> (N, 3 cells, 2): an offset that is a hundred times as large as the confidence beside it."""
    to_both = np.stack([100 * EYE, confidence * EYE], axis=2).reshape(3, 6)
    nodes = [("MatMul", "x w", "z", {}), ("Reshape", "z shape", "y", {})]
    return model(
        nodes,
        [("x", FLOAT, ["N", 3])],
        [("y", FLOAT, ["N", 3, 2])],
        w=to_both.astype(np.float32),
        shape=np.array([0, 3, 2]),
    )


def test_every_feature_counts_by_its_own_variance():
    scorer = build(detector(1.0), dataset(SAMPLES))
    assert scorer.score(detector(1.0)).value == 1
    blind = scorer.score(detector(0.0))
    error = (SAMPLES**2).sum() / ((SAMPLES - SAMPLES.mean(0)) ** 2).sum()
    assert blind.value == pytest.approx(0.5 * (1 + max(0, 1 - error)))
    assert blind.soft == pytest.approx(0.5 * (1 + 1 / (1 + error)), rel=1e-5)
    lost = scorer.score(detector(np.nan))
    assert lost.value == 0
    assert lost.soft == pytest.approx(0.5)
    one = build(detector(1.0), dataset(SAMPLES[:1]))
    assert one.score(detector(1.0)).value == 1 > one.score(detector(0.9)).value > 0.9
    # A feature that never varies says nothing.
    assert build(detector(0.0), dataset(SAMPLES)).score(detector(1e-3)).value == 1


def test_closeness_ends_at_zero_where_soft_goes_on():
    scorer = build(two_outputs(EYE, EYE), dataset(SAMPLES))
    bad, worse = (scorer.score(two_outputs(k * EYE, k * EYE)) for k in (5, 9))
    assert bad.value == worse.value == 0
    assert bad.for_search > worse.for_search > 0
    lost = scorer.score(two_outputs(np.full((3, 3), np.nan), np.full((3, 3), np.nan)))
    assert lost.value == 0


def test_outputs_that_do_not_vary():
    constant = model(
        [("Mul", "x zero", "z", {}), ("Add", "z c", "p", {}), ("Identity", "x", "q", {})],
        [("x", FLOAT, ["N", 3])],
        [("p", FLOAT, ["N", 3]), ("q", FLOAT, ["N", 3])],
        zero=np.float32(0),
        c=np.float32([1, 2, 3]),
    )
    scorer = build(constant, dataset(SAMPLES))
    assert scorer.score(constant).value == 1
    other = scorer.score(two_outputs(np.zeros((3, 3)), EYE))
    assert other.value == pytest.approx(0.5)
    zeros = build(two_outputs(np.zeros((3, 3)), EYE), dataset(SAMPLES))
    assert zeros.score(two_outputs(np.zeros((3, 3)), EYE)).value == 1
    assert zeros.score(two_outputs(EYE, EYE)).value == 0.5


def test_one_sample_is_compared_within_itself():
    scorer = build(two_outputs(EYE, EYE), dataset(SAMPLES[:1]))
    assert scorer.score(two_outputs(EYE, EYE)).value == 1
    assert 0 < scorer.score(two_outputs(0.9 * EYE, EYE)).value < 1


def test_integer_outputs_count_equal_elements():
    def network(weight):
        nodes = [("MatMul", "x w", "z", {}), ("ArgMax", "z", "y", {"axis": 1, "keepdims": 0})]
        return model(nodes, [("x", FLOAT, ["N", 3])], [("y", INT64, ["N"])], w=np.asarray(weight, np.float32))

    score = build(network(EYE), dataset(SAMPLES)).score(network(EYE[:, [1, 0, 2]]))
    assert (score.value, score.kind) == (pytest.approx(2 / 5), "agreement")


def test_rows_of_changing_length():
    """As detectors with suppression have: as many values as the input has non-zero elements."""

    def network(scale):
        nodes = [("NonZero", "x", "at", {}), ("Cast", "at", "f", {"to": FLOAT}), ("Mul", "f s", "y", {})]
        return model(nodes, [("x", FLOAT, ["N", 3])], [("y", FLOAT, [2, "M"])], s=np.float32(scale))

    scorer = build(network(1), dataset(SAMPLES))
    assert scorer.batch_size == 1
    assert scorer.score(network(1)).value == 1
    assert scorer.score(network(0.95)).value < 1


def test_labels_of_a_net_that_does_not_classify():
    scorer = build(two_outputs(EYE, EYE), dataset(SAMPLES, [0, 1, 2, 0, 1]))
    assert scorer.baseline.kind == "agreement"
    assert "no classifier" in scorer.notes[0]
