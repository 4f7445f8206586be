"""`knapsack`: HALP (Shen et al., "Structural Pruning via Latency-Saliency Knapsack", NeurIPS 2022), then local moves.

The first plan is HALP's (section 3): the saliency that is lost, summed over the groups, is least while the latency by
the device's table keeps to the budget. Where this departs from the paper:

1. Saliency is `Space.damage`, the share of energy that a group's consumers lose after refitting, rather than Taylor's
   |w * dL/dw|: there are no labels and no gradients.
2. An item is a width on the device's steps, not a block of neurons, so the knapsack is a multiple-choice one. It is
   solved by its Lagrangian and filled up (`Planner.knapsack`) instead of by dynamic programming: the cost of a layer
   depends on two groups, which a table of separate items could not tell.
3. HALP prunes in many small steps with training in between; here one plan is corrected in closed form.
4. Ours: the evaluations after the first. While plans miss the target, each corrects the table and the knapsack is
   solved again. Then come exchanges around the best plan, and what they score weighs the groups' damage.

It is the control that says what the table and the hints alone are worth.
"""

from __future__ import annotations

import numpy as np

from ..budget import Row
from ..space import Outcome, Space
from .base import BudgetAgent
from .registry import register

__all__ = ["Knapsack"]


@register("knapsack")
class Knapsack(BudgetAgent):
    """Coordinate search: one group moves one step, the budget adjusts the others where that costs least.

    Outcomes guide it twice: only a better plan becomes the new centre, and each group's damage is weighted up when
    giving it room paid or taking room from it cost, down in the opposite case. Once every move around the centre has
    been tried, random moves follow.
    """

    def __init__(self, space: Space, episodes: int, seed: int) -> None:
        super().__init__(space, episodes, seed)
        self.weights = np.ones(len(space.choices))
        self.centre: tuple[Row, Outcome] | None = None
        self.moves: list[Row] = []

    def propose(self) -> Row:
        if self.centre is None or self.centre[1].ratio > self.space.target:
            # While the first plans miss the target, each corrects the table, and the knapsack has another solution.
            return self.planner.knapsack(self.weights)
        while self.moves:
            row = self.moves.pop()
            if row not in self.known and self.budget.fits(row):
                return row
        return self.centre[0]

    def learn(self, row: Row, outcome: Outcome) -> None:
        if self.centre and outcome.ratio <= self.space.target:
            gain = outcome.score - self.centre[1].score
            moved = np.sign(np.array(row) - np.array(self.centre[0]))
            self.weights *= np.exp(0.2 * np.sign(gain) * moved)
        if self.centre != self.best:
            self.centre = self.best
            self.moves = self._moves(row)

    def _moves(self, centre: Row) -> list[Row]:
        """Every one-step move from `centre`, paid for by the other groups; the least expected damage last."""
        index = self.planner.index(centre)
        groups, last = np.arange(len(index)), self.planner.last
        rates = self.weights[:, None] * self.planner.rates
        expected: dict[Row, float] = {}
        for group in groups:
            for moved in (index[group] - 1, index[group] + 1):
                if 0 <= moved <= last[group]:
                    start = index.copy()
                    start[group] = moved
                    row = self.planner.settle(start, rates, groups != group)
                    damage = self.planner.damage[groups, self.planner.index(row)]
                    expected[row] = float((self.weights * damage).sum())
        return sorted(expected, key=lambda row: -expected[row])
