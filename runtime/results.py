"""What a measurement says: a distribution with its interval and its conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Latency", "Ratio"]


@dataclass(frozen=True)
class Latency:
    """Milliseconds that one call of a model takes."""

    median_ms: float
    """Median over sessions of the median of each: every session counts the same, whatever memory it got."""
    p90_ms: float
    """90th percentile of all samples."""
    low_ms: float
    high_ms: float
    confidence: float
    """Probability that low_ms..high_ms covers the median: 0.95, or less where time allowed too few observations."""
    samples_ms: tuple[float, ...] = field(repr=False)
    """Every sample in order of time; models quicker than 0.2 ms are called several times a sample."""
    clock: str
    """`thread-cpu` (CPU time of the calling thread: one CPU thread) or `wall`; of all figures but wall_median_ms."""
    wall_median_ms: float
    conditions: Mapping[str, Any] = field(repr=False)
    """device (see `Device.describe`), providers (name -> nodes that it ran), sessions, rounds, seconds, seed, ..."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values that JSON can hold."""
        return {**_plain(self), "samples_ms": list(self.samples_ms), "conditions": dict(self.conditions)}

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Latency:
        """The latency that `to_dict` wrote down."""
        return Latency(**{**fields, "samples_ms": tuple(fields["samples_ms"])})


@dataclass(frozen=True)
class Ratio:
    """Latency of a candidate over that of a baseline, of the same minutes."""

    value: float
    low: float
    high: float
    confidence: float
    """Probability that low..high covers the ratio: 0.95, or less where time allowed too few observations."""
    baseline: Latency
    candidate: Latency
    drift: float
    """How much slower (positive) or quicker the baseline was than known before, or than when the measurement began."""
    drifted: bool
    """Whether the drift is beyond noise, in a second try too: the ratio may stand, the milliseconds are doubtful."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values that JSON can hold."""
        return {**_plain(self), "baseline": self.baseline.to_dict(), "candidate": self.candidate.to_dict()}

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Ratio:
        """The ratio that `to_dict` wrote down."""
        both = {name: Latency.from_dict(fields[name]) for name in ("baseline", "candidate")}
        return Ratio(**{**fields, **both})


def _plain(result: Latency | Ratio) -> dict[str, Any]:
    return {item.name: getattr(result, item.name) for item in fields(result)}
