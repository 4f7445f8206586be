"""The latency budget: what the device's table, corrected by measurements, says of a plan and of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ...errors import NothingToPruneError
from .correction import Correction
from .space import Space

__all__ = ["Budget", "Row"]

Row = tuple[int, ...]
"""Units kept per choice, in graph order: a plan as a key."""


class Budget:
    """Which plans meet the target, as far as can be told without measuring.

    A plan fits when its corrected ratio, plus `caution` times the scatter of the correction, is at most the target:
    measured ratios scatter around the prediction, and a plan that lands above the target is an evaluation lost.

    Assumes what the steps of a `Choice` promise: among the widths offered, fewer units are not slower.

    Raises:
        NothingToPruneError: the space has no choice.
    """

    def __init__(self, space: Space, correction: Correction | None = None, *, caution: float = 0.5) -> None:
        if not space.choices:
            raise NothingToPruneError("the search space is empty: the model has no group whose width can be chosen")
        self.space = space
        self.correction = correction or Correction(space.target)
        self.caution = caution
        self.widths = tuple(choice.widths for choice in space.choices)
        self.full: Row = tuple(widths[-1] for widths in self.widths)
        self.narrowest: Row = tuple(widths[0] for widths in self.widths)
        # Walking the groups asks about the same prefixes again and again.
        self._ratio = lru_cache(maxsize=8192)(lambda row: float(space.latency.ratio(space.plan(row))))

    def predicted(self, row: Row) -> float:
        """The table's ratio, uncorrected: the same for the whole search."""
        return self._ratio(row)

    def fits(self, row: Row) -> bool:
        """Whether `row` is expected to meet the target when it is measured."""
        expected = self.correction.corrected(self._ratio(row))
        return expected + self.caution * self.correction.scatter <= self.space.target

    def observe(self, row: Row, measured: float) -> None:
        """Let the measured ratio of `row` correct the table."""
        self.correction.observe(self._ratio(row), measured)

    def bounds(self, prefix: Sequence[int], *, lower: bool = True) -> tuple[int, int]:
        """Narrowest and widest sensible width of the next group, after `prefix` (AMC's action wall, in latency).

        Widest: the most units with which the target can still be met if every later group goes to its narrowest; the
        narrowest width if none can. Narrowest: the most units with which the target is met even if every later group
        stays full, because less would buy nothing; `lower=False` takes this wall down.
        """
        before, at = tuple(prefix), len(prefix)
        offered = self.widths[at]
        widest = self._last_fitting(before, offered, self.narrowest[at + 1 :])
        narrowest = self._last_fitting(before, offered, self.full[at + 1 :]) if lower else 0
        # Tables need not be monotone: the wall that keeps the target wins.
        return offered[min(narrowest, widest)], offered[widest]

    def _last_fitting(self, before: Row, offered: tuple[int, ...], after: Row) -> int:
        """Largest index into `offered` whose plan fits, by bisection; 0 if none does."""
        if self.fits((*before, offered[-1], *after)):
            return len(offered) - 1
        fitting, failing = 0, len(offered) - 1
        while failing - fitting > 1:
            middle = (fitting + failing) // 2
            if self.fits((*before, offered[middle], *after)):
                fitting = middle
            else:
                failing = middle
        return fitting
