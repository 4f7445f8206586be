"""Spans that run side by side get lanes and colours of their own."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from ortrim.compressor.cli.lanes import colours, pack

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted).map(tuple), max_size=25)


def beside(spans):
    """Pairs of spans that share a row."""
    return [
        (one, other)
        for one, other in combinations(range(len(spans)), 2)
        if spans[one][0] <= spans[other][1] and spans[other][0] <= spans[one][1]
    ]


def most(spans):
    """The largest number of spans in one row."""
    return max((sum(first <= row <= last for first, last in spans) for row in range(31)), default=0)


@given(SPANS)
def test_lanes_do_not_overlap_and_are_as_few_as_can_be(spans):
    lanes = pack(spans)
    assert len(lanes) == len(spans)
    assert all(lanes[one] != lanes[other] for one, other in beside(spans))
    assert set(lanes) == set(range(most(spans)))


def test_a_lane_is_used_again_from_the_left():
    assert pack([(0, 9), (1, 2), (3, 4), (2, 5)]) == (0, 1, 1, 2)
    assert pack([(0, 1), (1, 2), (2, 3)]) == (0, 1, 0)  # a row cannot hold the end of one and the start of another


@given(SPANS, st.integers(1, 8))
def test_spans_side_by_side_look_different_while_colours_last(spans, count):
    given_colours = colours(spans, count)
    assert set(given_colours) <= set(range(count))
    if most(spans) <= count:
        assert all(given_colours[one] != given_colours[other] for one, other in beside(spans))


def test_colours_take_turns_and_are_shared_evenly():
    assert colours([(0, 9), (1, 2), (3, 4), (5, 6), (7, 8)], 3) == (0, 1, 2, 1, 2)
    assert sorted(colours([(0, 9)] * 6, 3)) == [0, 0, 1, 1, 2, 2]
