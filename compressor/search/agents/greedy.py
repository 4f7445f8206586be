"""`greedy`: NetAdapt (Yang et al., "Platform-Aware Neural Network Adaptation for Mobile Applications", ECCV 2018).

Algorithm 1 of the paper, with latency read from the device's table: the budget is tightened step by step; at each step
every group alone is narrowed just enough to meet it, the candidates are evaluated, and one becomes the start of the
next step. Where this departs from the paper:

1. NetAdapt evaluates every layer at every step. That is (groups x steps) evaluations, thousands for a deep net. Here
   the groups with the least damage per latency (by the hints) are tried, as many as the evaluations allow.
2. It takes the candidate with the highest accuracy. Widths lie on the device's steps, so that candidates overshoot the
   step by different amounts: the one that loses least score for the latency it gains is taken.
3. A group that cannot pay for the step even at its narrowest is helped by the others, where that costs least.
4. Closed-form correction takes the place of short-term fine-tuning, and of the final one.
5. The steps are equal; the paper's shrink by a few per cent each.

Early plans miss the target: that is the algorithm. When the target is met it has nothing left to do, and is exhausted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..budget import Budget, Row
from ..space import Outcome, Space
from .base import BudgetAgent
from .planner import Planner
from .registry import register

__all__ = ["Greedy"]

OVERSHOOT = 0.7
"""Steps taken over steps planned, about: widths lie on the device's steps, and candidates overshoot."""
RESERVED = 0.4
"""Of an even share of the evaluations, what is kept for each step to come."""
LEAST_LOSS = 1e-4
"""Score lost that counts as none: among candidates that lose less, the one that gains most latency is taken."""


@register("greedy")
class Greedy(BudgetAgent):
    """NetAdapt; see the module's docstring."""

    stepwise = True

    def __init__(self, space: Space, episodes: int, seed: int) -> None:
        super().__init__(space, episodes, seed)
        self.steps = max(1, round((4 * episodes) ** 0.5))
        """Steps in which the budget is tightened: 20 of 5 candidates for 100 evaluations, 35 of 8 for 300."""
        self.shortlist = 1
        """Candidates of this step that are evaluated."""
        self.centre: Row = self.budget.full
        self.centre_score: float | None = None
        self.step = 0
        self.waiting: list[Row] = []
        """Candidates of this step, best hint last."""
        self.outcomes: dict[Row, Outcome] = {}
        self.tried: list[Row] = []
        """Candidates of this step that were asked for."""
        self.finished = False
        self._next_step()

    @property
    def limit(self) -> float:
        """The ratio that candidates of this step have to meet."""
        return 1.0 - (1.0 - self.space.target) * min(1.0, self.step / self.steps)

    def propose(self) -> Row:
        while self.waiting and not self.finished:
            row = self.waiting.pop()
            if row not in self.known:
                self.tried.append(row)
                return row
        return self.best[0] if self.best else self.centre

    def vary(self, row: Row) -> Row | None:
        return None if self.finished else super().vary(row)

    def learn(self, row: Row, outcome: Outcome) -> None:
        self.outcomes[row] = outcome
        told = [candidate for candidate in self.tried if candidate in self.outcomes]
        if self.finished or len(told) < min(self.shortlist, len(self.tried) + len(self.waiting)):
            return
        if told:
            self.centre = max(told, key=self._worth)
            self.centre_score = self.outcomes[self.centre].score
            if self.step >= self.steps and self.outcomes[self.centre].ratio <= self.space.target:
                self.finished = True
                return
        self._next_step()

    def _worth(self, row: Row) -> tuple[float, float]:
        """Least score lost for the latency gained since the centre, latency by the table."""
        gained = max(self.budget.predicted(self.centre) - self.budget.predicted(row), 1e-9)
        before = 1.0 if self.centre_score is None else self.centre_score
        outcome = self.outcomes[row]
        if not np.isfinite(outcome.ratio):
            return -np.inf, 0.0
        return -max(before - outcome.score, LEAST_LOSS) / gained, outcome.score

    def _next_step(self) -> None:
        """Tighten the budget and line up the candidates that meet it."""
        for _ in range(self.steps + 1):
            self.step = min(self.step + 1, self.steps)
            left = self.episodes - self.asked
            # A candidate that overshoots makes up for several steps, so what is left is shared out anew each time.
            gap = max(self.budget.correction.corrected(self.budget.predicted(self.centre)) - self.space.target, 1e-9)
            step = (1.0 - self.space.target) / self.steps
            share = round(left * min(1.0, step / gap) / OVERSHOOT)
            # Where candidates do not overshoot, the last steps must not go without: one of them meets the target.
            reserve = round(RESERVED * self.episodes / self.steps * (self.steps - self.step + 1))
            self.shortlist = max(1, min(share, left - reserve))
            self.waiting, self.tried = self._candidates(), []
            if self.waiting:
                return
            if self.step == self.steps:
                break
        # The corrected table says that the centre meets the target already, or that nothing narrower is left.
        self.finished = True

    def _candidates(self) -> list[Row]:
        """Each group narrowed until the step's budget is met; the least damage for the latency gained last."""
        budget = Budget(replace(self.space, target=self.limit), self.budget.correction)
        planner = Planner(budget, self.rng)
        index = planner.index(self.centre)
        now = float(planner.damage[np.arange(len(index)), index].sum())
        worth: dict[Row, float] = {}
        for group in np.flatnonzero(index > 0):
            narrowed = index.copy()
            while narrowed[group] > 0 and (narrowed[group] == index[group] or not budget.fits(planner.row(narrowed))):
                narrowed[group] -= 1
            row = planner.row(narrowed)
            if not budget.fits(row):
                others = np.arange(len(index)) != group
                row = planner.row(planner.narrow(narrowed, planner.rates, others))
            if row in self.known:
                continue
            gained = max(budget.predicted(self.centre) - budget.predicted(row), 1e-9)
            at = planner.index(row)
            worth[row] = (float(planner.damage[np.arange(len(at)), at].sum()) - now) / gained
        return sorted(worth, key=lambda row: -worth[row])
