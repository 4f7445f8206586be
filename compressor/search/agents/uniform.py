"""`uniform`: one share for all groups, the widest that meets the target when measured. What a person tries first."""

from __future__ import annotations

from collections.abc import Sequence

from ..budget import Row
from ..space import Outcome, Space
from .base import BudgetAgent
from .registry import register

__all__ = ["Uniform"]


@register("uniform")
class Uniform(BudgetAgent):
    """Bisection: outcomes bracket the share, and the table says where in the bracket to look. Soon exhausted."""

    def __init__(self, space: Space, episodes: int, seed: int) -> None:
        super().__init__(space, episodes, seed)
        self.rows: Sequence[Row] = self.planner.uniform_rows
        self.met = -1
        """Index of the widest row that was measured to meet the target."""
        self.missed = len(self.rows)
        """Index of the narrowest row that was measured to miss it."""

    def propose(self) -> Row:
        for row in reversed(self.rows[self.met + 1 : self.missed]):
            if row not in self.known and self.budget.fits(row):
                return row
        return self.rows[max(self.met, 0)]

    def vary(self, row: Row) -> Row | None:
        return None

    def learn(self, row: Row, outcome: Outcome) -> None:
        if row not in self.rows:
            return
        at = self.rows.index(row)
        if outcome.ratio <= self.space.target:
            self.met = max(self.met, at)
        else:
            self.missed = min(self.missed, at)
