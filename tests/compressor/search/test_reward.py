"""Ranking of outcomes: the target is a wall, accuracy decides within it."""

import math

from hypothesis import given
from hypothesis import strategies as st

from ortrim.compressor.search.reward import better, reward
from ortrim.compressor.search.space import Outcome

scores = st.floats(0.0, 1.0)
ratios = st.floats(0.0, 3.0)


@given(scores, scores, ratios, ratios, st.floats(0.1, 1.0))
def test_what_meets_the_target_is_worth_more_than_what_does_not(score_a, score_b, ratio_a, ratio_b, target):
    a, b = Outcome(score_a, ratio_a), Outcome(score_b, ratio_b)
    if ratio_a <= target < ratio_b:
        assert reward(a, target) == score_a > reward(b, target)
        assert better(a, b, target)
        assert not better(b, a, target)


@given(scores, scores, st.floats(0.0, 1.0), st.floats(0.01, 1.0))
def test_above_the_target_the_reward_falls_with_the_excess_whatever_the_score(score_a, score_b, excess, more):
    nearer, further = Outcome(score_a, 0.5 + excess + 1e-6), Outcome(score_b, 0.5 + excess + more)
    assert 0.0 > reward(nearer, 0.5) > reward(further, 0.5) >= -1.0


def test_a_failed_measurement_is_worth_the_least():
    assert reward(Outcome(1.0, math.nan), 0.5) == reward(Outcome(1.0, math.inf), 0.5) == -1.0


def test_of_equal_scores_the_faster_wins_and_anything_beats_nothing():
    slow, fast = Outcome(0.9, 0.59), Outcome(0.9, 0.5)
    assert better(fast, slow, 0.6)
    assert not better(slow, fast, 0.6)
    assert not better(slow, slow, 0.6)
    assert better(Outcome(0.0, 2.0), None, 0.6)
