"""Places for spans that run side by side: few lanes, and colours that tell neighbours apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["Span", "colours", "pack"]

Span = tuple[int, int]
"""First and last row, both included."""


def pack(spans: Sequence[Span]) -> tuple[int, ...]:
    """A lane for each span; spans that share a row are in different lanes.

    As few lanes as the rows allow: each span, in order of the first row, gets the leftmost one that is free.
    """
    lanes = [0] * len(spans)
    ends: list[int] = []
    for index in _by_first_row(spans):
        first, last = spans[index]
        lane = next((lane for lane, end in enumerate(ends) if end < first), len(ends))
        ends[lane : lane + 1] = [last]
        lanes[index] = lane
    return tuple(lanes)


def colours(spans: Sequence[Span], count: int) -> tuple[int, ...]:
    """One of `count` colours for each span, another than those of the spans that share a row with it.

    Where there are more such spans than colours, it is the one that fewest of them have. Colours take turns, so that
    spans that follow each other differ too.
    """
    given: dict[int, int] = {}
    latest = -1
    for index in _by_first_row(spans):
        first, _ = spans[index]
        around = Counter(colour for other, colour in given.items() if spans[other][1] >= first)
        turns = ((latest + step) % count for step in range(1, count + 1))
        given[index] = latest = min(turns, key=lambda colour: around[colour])
    return tuple(given[index] for index in range(len(spans)))


def _by_first_row(spans: Sequence[Span]) -> list[int]:
    return sorted(range(len(spans)), key=lambda index: spans[index])
