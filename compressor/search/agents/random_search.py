"""`random`: plans drawn at random that meet the target by the table. The control that any search must beat."""

from __future__ import annotations

from ..budget import Row
from .base import BudgetAgent
from .registry import register

__all__ = ["RandomSearch"]


@register("random")
class RandomSearch(BudgetAgent):
    """Every plan independent of the outcomes, but for the correction of the table."""

    def propose(self) -> Row:
        return self.planner.random()

    def vary(self, row: Row) -> Row | None:
        for _ in range(64):
            row = self.planner.random()
            if row not in self.known and self.budget.fits(row):
                return row
        return None
