"""Samples in bins, for the pictures of a page and of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["bin_counts", "quantile"]


def bin_counts(samples: Sequence[float], low: float, high: float, bins: int) -> list[int]:
    """How many samples each of `bins` equal parts of [low, high] holds; those outside are left out.

    The highest part includes `high`. Where `low` is `high`, all that equal it are in the first.
    """
    counts = [0] * bins
    width = (high - low) / bins
    for sample in samples:
        if low <= sample <= high:
            counts[min(int((sample - low) / width), bins - 1) if width > 0 else 0] += 1
    return counts


def quantile(samples: Sequence[float], share: float) -> float:
    """The sample that so large a share of all is below."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
