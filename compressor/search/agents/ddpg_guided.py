"""`ddpg-guided`: AMC's agent (`ddpg`) with a local search around the best plan. Not AMC: ours.

What is added to `ddpg`, and carries the search where evaluations are few:

1. Part of the warm-up are demonstrations, knapsack solutions under randomly weighted damage hints and the uniform plan;
   they are in the replay buffer as ordinary transitions.
2. Most later episodes change the best plan so far in one or two groups and let the budget adjust the others. The actor
   proposes the rest, about a fifth: a comparison that means AMC must take `ddpg`.
3. A plan that comes up again is changed in a few groups, not drawn anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..budget import Row
from ..space import Space
from .base import BudgetAgent
from .ddpg import DDPG, Settings
from .registry import register

__all__ = ["GuidedDDPG", "GuidedSettings"]


@dataclass(frozen=True)
class GuidedSettings(Settings):
    """Hyper-parameters of `ddpg`, and what guides it."""

    demonstrations: float = 0.7
    """Share of the warm-up that are demonstrations, the others random walks."""
    mutation: float = 0.8
    """Share of the later episodes that change the best plan instead of asking the actor."""


@register("ddpg-guided")
class GuidedDDPG(DDPG):
    """AMC's agent beside demonstrations and mutations; see the module's docstring."""

    def __init__(self, space: Space, episodes: int, seed: int, settings: GuidedSettings | None = None) -> None:
        self.guidance = settings or GuidedSettings()
        super().__init__(space, episodes, seed, self.guidance)

    def vary(self, row: Row) -> Row | None:
        return BudgetAgent.vary(self, row)

    def _opening(self) -> Row:
        return self._demonstration() if self.rng.random() < self.guidance.demonstrations else self._random_walk()

    def _candidate(self) -> Row:
        if self.best and self.rng.random() < self.guidance.mutation:
            return self.planner.mutate(self.best[0], moves=int(self.rng.integers(1, 3)))
        return self._act()

    def _demonstration(self) -> Row:
        """The knapsack's own solution until a plan has met the target, the uniform plan, then knapsacks under noise."""
        groups = len(self.space.choices)
        if self.best is None or self.best[1].ratio > self.space.target:
            plain = self.planner.knapsack(np.ones(groups))
            if plain not in self.known:
                return plain
        if self.known.isdisjoint(self.planner.uniform_rows):
            return self.planner.uniform()
        # The hints may be nearly right or far off: try both small and large doubts.
        doubt = self.rng.uniform(0.1, 1.0)
        return self.planner.knapsack(np.exp(self.rng.normal(scale=doubt, size=groups)))
