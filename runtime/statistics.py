"""Medians with intervals that assume nothing about the shape of the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import comb

import numpy as np

__all__ = ["FEWEST_OBSERVATIONS", "Interval", "independent_observations", "median_interval"]

CONFIDENCE = 0.95
FEWEST_OBSERVATIONS = 6
"""With six independent observations the smallest and the largest enclose the median with probability 1 - 2/2^6 = 0.97;
with five it is 0.94, so six is the fewest that can carry a 95 % interval."""


@dataclass(frozen=True)
class Interval:
    """Where the median lies."""

    median: float
    low: float
    high: float
    confidence: float
    """Probability that the interval covers the true median: 0.95, or less where there are too few observations."""

    @property
    def width(self) -> float:
        """Width of the interval relative to the median."""
        return (self.high - self.low) / self.median


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Median of independent `values` with an interval by order statistics.

    The number of values below the true median is binomial with probability one half, whatever the distribution; so
    the k-th smallest and k-th largest enclose it with a probability that is known. Two neighbouring k are interpolated
    to reach `confidence` itself (Hettmansperger and Sheather, Statistics & Probability Letters 4, 1986). Where even the
    extremes fall short of it, they are the interval, and the probability that they reach is returned.

    Raises:
        ValueError: no values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n == 0:
        raise ValueError("the median of no values")
    median = float(np.median(ordered))
    covered = _coverage(n, 1)
    if covered < confidence:
        return Interval(median, float(ordered[0]), float(ordered[-1]), covered)
    k = 1
    while k + 1 <= n // 2 and (deeper := _coverage(n, k + 1)) >= confidence:
        k, covered = k + 1, deeper
    deeper = _coverage(n, k + 1)
    share = (covered - confidence) / (covered - deeper)
    weight = (n - k) * share / (k + (n - 2 * k) * share)
    low = ordered[k - 1] + weight * (ordered[k] - ordered[k - 1])
    high = ordered[n - k] + weight * (ordered[n - k - 1] - ordered[n - k])
    return Interval(median, float(low), float(high), confidence)


def independent_observations(repeats: Sequence[Sequence[float]]) -> list[float]:
    """One value for each repeat: its median; or all values where there are too few repeats for an interval.

    Values of one repeat share its sessions and its minutes, so they are alike, and counting them one by one would make
    an interval too narrow. With fewer than six repeats there is no choice, and what differs between sessions is then
    not covered.
    """
    if len(repeats) >= FEWEST_OBSERVATIONS:
        return [float(np.median(values)) for values in repeats]
    return list(chain.from_iterable(repeats))


def _coverage(n: int, k: int) -> float:
    """Probability that the k-th smallest and k-th largest of n values enclose the median."""
    return 1 - 2 * sum(comb(n, i) for i in range(k)) / 2**n
