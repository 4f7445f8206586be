from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortrim.runtime.statistics import independent_observations, median_interval

_TRIALS = 3000
_DRAWS = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    "skewed": (lambda rng, shape: rng.exponential(size=shape), np.log(2)),
    "heavy": (lambda rng, shape: rng.standard_cauchy(size=shape), 0.0),
}


@pytest.mark.parametrize("kind", _DRAWS)
@pytest.mark.parametrize("count", [6, 7, 9, 12, 30])
def test_interval_covers_the_median_as_often_as_it_says(kind, count):
    draw, truth = _DRAWS[kind]
    intervals = [median_interval(row) for row in draw(np.random.default_rng(count), (_TRIALS, count))]
    covered = np.mean([found.low <= truth <= found.high for found in intervals])
    assert intervals[0].confidence == 0.95
    # Three standard errors of the simulation are 0.012; six values cover 0.969 by their extremes.
    assert 0.935 <= covered <= 0.985


@pytest.mark.parametrize(("count", "confidence"), [(1, 0.0), (2, 0.5), (3, 0.75), (5, 0.9375)])
def test_few_values_say_how_little_they_know(count, confidence):
    found = median_interval(range(count))
    assert (found.low, found.high, found.confidence) == (0, count - 1, confidence)


def test_known_interval():
    # n=10: k=2 encloses the median with 0.9785, k=3 with 0.8906, so 0.95 lies between, nearer to k=2.
    found = median_interval(range(1, 11))
    assert 2 < found.low < 3
    assert 8 < found.high < 9
    assert found.low - 2 == pytest.approx(9 - found.high)
    assert found.width == pytest.approx((found.high - found.low) / 5.5)


def test_no_values():
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


_samples = st.lists(st.floats(0.01, 1000), min_size=1, max_size=60)


@given(_samples, st.randoms(use_true_random=False), st.floats(0.1, 10))
def test_interval_is_ordered_and_follows_its_values(values, random, factor):
    found = median_interval(values)
    assert min(values) <= found.low <= found.median * (1 + 1e-12)
    assert found.median <= found.high * (1 + 1e-12)
    assert found.high <= max(values) * (1 + 1e-12)
    shuffled = list(values)
    random.shuffle(shuffled)
    assert median_interval(shuffled) == found
    scaled = median_interval([value * factor for value in values])
    assert scaled.low == pytest.approx(found.low * factor)
    assert scaled.high == pytest.approx(found.high * factor)


def test_repeats_count_once_when_there_are_enough():
    assert independent_observations([[1, 2, 9]] * 6) == [2] * 6
    assert independent_observations([[1, 2], [3]]) == [1, 2, 3]


def test_clustered_values_do_not_fake_a_narrow_interval():
    """Sessions differ by 2 %, rounds by 0.2 %: counting rounds one by one would cover the truth rarely."""
    rng = np.random.default_rng(0)
    clustered, naive = 0, 0
    for _ in range(400):
        rounds = 1 + 0.02 * rng.standard_normal((6, 1)) + 0.002 * rng.standard_normal((6, 20))
        found, wrong = median_interval(independent_observations(rounds.tolist())), median_interval(rounds.ravel())
        clustered += found.low <= 1 <= found.high
        naive += wrong.low <= 1 <= wrong.high
    assert clustered >= 370
    assert naive < 300
