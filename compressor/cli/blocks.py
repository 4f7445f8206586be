"""Small pictures in a line of text."""

from __future__ import annotations

from collections.abc import Sequence

from ..report.histogram import bin_counts, quantile

__all__ = ["histogram", "spark"]

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BINS = 24
_TAIL = 0.99
"""The slowest hundredth is cut off: one sample that an interrupt hit would squeeze all others into one bin."""


def spark(values: Sequence[float]) -> str:
    """One block for each value, as high as its share of the largest; empty only where the value is 0."""
    largest = max(values, default=0.0)
    if largest <= 0:
        return _BLOCKS[0] * len(values)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[max(round(top * value / largest), 1 if value > 0 else 0)] for value in values)


def histogram(samples: Sequence[float]) -> tuple[float, str, float]:
    """Where the picture begins, the picture, and where it ends."""
    low, high = min(samples), quantile(samples, _TAIL)
    return low, spark(bin_counts(samples, low, high, _BINS)), high
