"""The line between table and measurement."""

import math

import numpy as np
import pytest

from ortrim.compressor.search.correction import Correction


def measured(predicted, rng, noise=0.01):
    """A table that promises savings a quarter too large."""
    return 1.0 - 0.8 * (1.0 - predicted) + noise * rng.normal()


def test_without_trials_it_changes_nothing():
    assert [Correction(0.6).corrected(ratio) for ratio in (0.2, 0.6, 1.0)] == [0.2, 0.6, 1.0]


def test_a_few_trials_near_the_target_teach_the_shift():
    rng, correction = np.random.default_rng(0), Correction(0.6)
    for predicted in (0.5, 0.48, 0.52, 0.5):
        correction.observe(predicted, measured(predicted, rng))
    assert correction.corrected(0.5) == pytest.approx(0.6, abs=0.015)


def test_trials_across_the_range_teach_the_slope():
    rng, correction = np.random.default_rng(1), Correction(0.6)
    for predicted in rng.uniform(0.2, 0.9, size=40):
        correction.observe(predicted, measured(predicted, rng))
    for predicted in (0.25, 0.5, 0.85):
        assert correction.corrected(predicted) == pytest.approx(1.0 - 0.8 * (1.0 - predicted), abs=0.01)
    assert 0.005 < correction.scatter < 0.02


def test_wild_measurements_hardly_move_it():
    rng, correction = np.random.default_rng(2), Correction(0.6)
    for trial in range(30):
        predicted = rng.uniform(0.45, 0.55)
        correction.observe(predicted, 0.3 if trial % 6 == 3 else measured(predicted, rng))
    assert correction.corrected(0.5) == pytest.approx(0.6, abs=0.015)


def test_a_device_that_changes_is_followed():
    rng, correction = np.random.default_rng(3), Correction(0.6, window=20)
    for offset in [0.1] * 30 + [-0.1] * 20:
        correction.observe(0.5, 0.5 + offset + 0.005 * rng.normal())
    assert correction.corrected(0.5) == pytest.approx(0.4, abs=0.01)


def test_failed_measurements_are_ignored():
    correction = Correction(0.6)
    correction.observe(0.5, math.nan)
    correction.observe(0.5, math.inf)
    assert correction.corrected(0.5) == 0.5
