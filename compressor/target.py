"""What `--latency` asks for: a share of the original's latency (`0.6x`) or milliseconds (`4.5ms`)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Self

from ..errors import InputError

__all__ = ["Target"]

_FORMS = "use a share of the original's latency such as 0.6x, or milliseconds such as 4.5ms"
_PATTERN = re.compile(
    r"(?P<number>\d+(\.\d*)?|\.\d+)(?P<exponent>e[+-]?\d+)?\s*(?P<unit>x|ms)", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class Target:
    """A latency to reach; exactly one of the two fields is set.

    Example:
        >>> Target.parse("4.5 ms").as_ratio(baseline_ms=9.0)
        0.5
    """

    ratio: float | None = None
    """Largest share of the original's latency, above 0 and below 1."""
    milliseconds: float | None = None
    """Largest median latency in milliseconds."""

    def __post_init__(self) -> None:
        if (self.ratio is None) == (self.milliseconds is None):
            raise InputError(f"--latency takes a share or milliseconds, one of the two: {_FORMS}")
        value = self.ratio if self.ratio is not None else self.milliseconds
        if value is None or not (math.isfinite(value) and value > 0):
            raise InputError(f"--latency {value} is not above zero and finite: {_FORMS}")
        if self.ratio is not None and self.ratio >= 1:
            raise InputError(f"--latency {self} would be no faster than the original: {_FORMS}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The target written as `0.6x`, `4.5ms` or `4.5 ms`.

        Raises:
            InputError: anything else, and shares outside ]0, 1[.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise InputError(f"--latency {text!r} is not a latency target: {_FORMS}")
        value = float(match["number"] + (match["exponent"] or ""))
        return cls(ratio=value) if match["unit"].lower() == "x" else cls(milliseconds=value)

    def as_ratio(self, baseline_ms: float) -> float:
        """The target as a share of a baseline of `baseline_ms` milliseconds.

        Raises:
            InputError: the baseline is that fast already.
        """
        if self.milliseconds is None:
            return float(self.ratio or 0)
        if self.milliseconds >= baseline_ms:
            raise InputError(f"--latency {self} is met already: the original takes {baseline_ms:.3g} ms on this device")
        return self.milliseconds / baseline_ms

    def met_by(self, ratio: float, baseline_ms: float) -> bool:
        """Whether a net with `ratio` times the baseline's latency is fast enough."""
        if self.milliseconds is None:
            return ratio <= float(self.ratio or 0)
        return ratio * baseline_ms <= self.milliseconds

    def __str__(self) -> str:
        """The form that `parse` reads back to an equal target."""
        if self.milliseconds is not None:
            return f"{self.milliseconds!r}".removesuffix(".0") + "ms"
        return f"{self.ratio!r}".removesuffix(".0") + "x"
