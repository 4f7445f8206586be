"""`ortrim`, the default: expert iteration on the device's steps, with an assistant that screens its proposals.

Expert iteration (Anthony et al., "Thinking Fast and Slow with Deep Learning and Tree Search", NeurIPS 2017): a policy
proposes whole plans, a search improves on them by a learned value, and the policy learns from what the search found.
Here

1. the policy is a softmax over the widths of each group. It starts as the best answer to the damage hints under a price
   for latency (the maximum-entropy policy of a reward that is a sum over groups). It imitates the best plans that were
   measured, and at a smaller rate each plan that the search found; when it is drawn from, an even share of chance is
   mixed in, so that it goes on exploring;
2. the value is the assistant's (`assistant`): expected loss less its uncertainty. It is trained on every real outcome,
   and its say is gated by its running rank correlation with real scores, as Mu et al. (arXiv 2107.08815) gate theirs:
   while that is low, every other plan, by chance, is sampled instead of searched, and the others let it prove itself;
3. the search exchanges widths of one or two groups within the budget of the corrected device table, from the best
   plans and from proposals: changes of good plans, knapsacks under noise, draws from the policy;
4. stages (after BOCR's clusters, arXiv 2109.10591, but by the size of the groups): at first the random weights that
   knapsacks, and draws that have to be brought to the budget, go by are the same for all groups of one stage; later
   each group has its own. Draws themselves are each group's own throughout;
5. history (after Mu et al., too): damage hints are corrected by what earlier searches say of such groups. The first
   proposals are the knapsacks of the corrected hints and of those as they were, and, where groups and target are the
   same, the earlier best plans; the assistant knows their outcomes, and may prove itself at once. What was measured of
   the same net on the same device corrects the table from the start.

The combination is ours.
"""

from __future__ import annotations

import numpy as np

from ..budget import Row
from ..past import Past
from ..space import Outcome, Space
from .assistant import Assistant
from .base import BudgetAgent
from .inherited import damage_weights, handed_down, known_losses, learn_latency
from .registry import register

__all__ = ["Ortrim"]

PROPOSALS = 12
"""Plans that the policy proposes for each evaluation; each costs about a millisecond to bring to the budget."""
STARTS = 3
"""Best plans that the search starts from, beside the best proposals."""
CLIMBS = 4
"""Exchanges in a row that the search makes at most."""
NEIGHBOURS = 400
"""Exchanges that are looked at in each."""
TRUSTED = 0.2
"""Rank correlation from which the assistant's search is followed."""
CLUSTERED = 0.15
"""Share of the evaluations in which groups of one cluster share their random weights."""
RATE = 0.15
"""Share of the way that the policy moves to the best plans measured, with every outcome."""
FOUND_RATE = 0.03
"""Share of the way that it moves to a plan that the search found, which is a promise only."""
FLOOR = 0.02
"""Share of chance in the policy's draws: it imitates few plans, and would repeat them without."""
NEAR = 0.05
"""Of the target: plans of searches for another one say how the groups compare, but neither where to begin nor what a
plan is worth (10 seeds of ResNet-20 from 0.8x to 0.6x, with scores of a model fitted to 2,000 evaluations: with both,
98 % of the gain of a plain search took 31 evaluations in the mean, without 14)."""
CAUTION = 0.5
"""Scatters below the target that a plan is expected at, at most: drawn anew for every proposal, from none on. Held at
one value, it shuts out for good what is expected just below the target, and the best plans are there."""


@register("ortrim")
class Ortrim(BudgetAgent):
    """Expert iteration with a screening assistant; see the module's docstring."""

    def __init__(self, space: Space, episodes: int, seed: int) -> None:
        super().__init__(space, episodes, seed)
        self.assistant = Assistant(self.planner.damage)
        self.groups = np.arange(len(space.choices))
        self.told: list[tuple[float, Row]] = []
        """(loss, plan) of what met the target."""
        self.policy: np.ndarray | None = None
        """Probabilities (groups, most widths)."""
        # One cluster for the groups of one size: the stages of most nets double their channels.
        sizes = np.array([choice.size for choice in space.choices])
        self.clusters = np.unique(sizes, return_inverse=True)[1]
        offered = np.isfinite(self.planner.damage)
        self.even = offered / offered.sum(axis=1, keepdims=True)
        """Probabilities of a policy that knows nothing."""

        self.first: list[Row] = []
        """Plans that a history gives to begin with, the first last."""

    def warm(self, past: Past) -> bool:
        learn_latency(past, self.budget)
        planner, even = self.planner, np.ones(len(self.groups))
        # What a search without a past begins with, which a worse plan that is handed down must not take the place of.
        plain = planner.knapsack(even)
        planner.damage = planner.damage * damage_weights(past, self.space.choices)[:, None]
        self.assistant = Assistant(planner.damage)
        self.first = [plain, planner.knapsack(even)]
        near = [source for source in past.sources if abs(source.target - self.space.target) <= NEAR]
        if near:
            self.first = [*handed_down(Past(tuple(near)), planner), *self.first]
            plans, losses = known_losses(Past(tuple(near)), planner)
            if len(plans):
                self.assistant.inherit(plans, losses)
        return True

    # -- what to try -------------------------------------------------------------------------------------------------

    def propose(self) -> Row:
        while self.first:
            row = self.first.pop()
            if row not in self.known and self.budget.fits(row):
                return row
        self.budget.caution = float(self.rng.uniform(0.0, CAUTION))
        if self.best is None or self.best[1].ratio > self.space.target:
            # While the first plans miss the target, each corrects the table, and the knapsack has another solution.
            plain = self.planner.knapsack(np.ones(len(self.groups)))
            if plain not in self.known:
                return plain
        proposals = [row for row in (self._sample() for _ in range(PROPOSALS)) if row not in self.known]
        if len(self.assistant.losses) < 6 or not self._trusted():
            return proposals[0] if proposals else self._centre()
        starts = [*proposals, *(row for _, row in sorted(self.told)[:STARTS])]
        found = self._search(starts) if starts else None
        if found is None:
            return self._centre()
        self._imitate([found], FOUND_RATE)
        return found

    def _trusted(self) -> bool:
        """Whether to follow the assistant now: always when it proved right, else half of the time, to let it do so."""
        return self.assistant.trust >= TRUSTED or self.rng.random() < 0.5

    def _centre(self) -> Row:
        return self.best[0] if self.best else self.budget.narrowest

    def _sample(self) -> Row:
        """A plan of the policy, or one of its kin: a knapsack under noise, or a change of a good plan."""
        kind = self.rng.random()
        if self.told and kind < 0.4:
            _, row = sorted(self.told)[int(self.rng.integers(min(5, len(self.told))))]
            return self.planner.mutate(row, moves=int(self.rng.integers(1, 3)))
        early = self.asked <= CLUSTERED * self.episodes
        noise = self.rng.normal(scale=self.rng.uniform(0.1, 1.0), size=len(self.groups))
        weights = np.exp(noise[self.clusters] if early else noise)
        if self.policy is None or kind < 0.6:
            return self.planner.knapsack(weights)
        chance = ((1.0 - FLOOR) * self.policy + FLOOR * self.even).cumsum(axis=1)
        index = (self.rng.random(len(self.groups))[:, None] > chance).sum(axis=1)
        index = np.minimum(index, self.planner.last)
        return self.planner.settle(index, weights[:, None] * self.planner.rates, np.ones(len(index), dtype=bool))

    def _search(self, starts: list[Row]) -> Row | None:
        """The plan of the least optimistic loss that exchanges lead to, none that is known."""
        plans = np.stack([self.planner.index(row) for row in starts])
        values = self._value(plans)
        order = np.argsort(values)
        best: tuple[float, Row] | None = None
        for at in order[:STARTS]:
            plan, value = plans[at], float(values[at])
            for _ in range(CLIMBS):
                row = self.planner.row(plan)
                if row not in self.known and self.budget.fits(row) and (best is None or value < best[0]):
                    best = value, row
                step = self._exchange(plan)
                if step is None:
                    break
                plan, value = step
        return None if best is None else best[1]

    def _exchange(self, plan: np.ndarray) -> tuple[np.ndarray, float] | None:
        """The best new plan that fits, of some that differ from `plan` in one or two groups, and its value."""
        near = np.repeat(plan[None], NEIGHBOURS, axis=0)
        rows = np.arange(NEIGHBOURS)
        for sign in (-1, 1):
            groups = self.rng.integers(len(plan), size=NEIGHBOURS)
            steps = sign * np.where(self.rng.random(NEIGHBOURS) < 0.8, 1, 2)
            near[rows, groups] = np.clip(near[rows, groups] + steps, 0, self.planner.last[groups])
        near = np.array(sorted(set(map(tuple, near.tolist()))))  # several times as quick as np.unique
        values = self._value(near)
        for at in np.argsort(values):
            row = self.planner.row(near[at])
            if row not in self.known and self.budget.fits(row):
                return near[at], float(values[at])
        return None

    def _value(self, plans: np.ndarray) -> np.ndarray:
        """Expected loss less a share of its uncertainty that shrinks towards the end."""
        mean, deviation = self.assistant.predict(plans)
        left = max(0.0, 1.0 - (self.asked - 1) / self.episodes)
        return mean - (0.2 + 0.8 * left) * deviation

    # -- what to learn from it ---------------------------------------------------------------------------------------

    def learn(self, row: Row, outcome: Outcome) -> None:
        if not np.isfinite(outcome.ratio):
            return
        index = self.planner.index(row)
        self.assistant.observe(index, 1.0 - outcome.score)
        if outcome.ratio <= self.space.target:
            self.told.append((1.0 - outcome.score, self.planner.row(index)))
        if self.policy is None:
            self.policy = self._first_policy(row)
        self._imitate([plan for _, plan in sorted(self.told)[:5]], RATE)

    def _imitate(self, rows: list[Row], rate: float) -> None:
        """Move the policy a share `rate` of the way to these plans: cross-entropy's step, taken in probabilities."""
        if self.policy is None:
            return
        for row in rows:
            wanted = np.zeros_like(self.policy)
            wanted[self.groups, self.planner.index(row)] = 1.0
            self.policy += rate / len(rows) * (wanted - self.policy)

    def _first_policy(self, row: Row) -> np.ndarray:
        """Softmax of -(damage + price * latency), the price so that `row` is about what it prefers."""
        planner = self.planner
        finite = np.isfinite(planner.damage)
        index = planner.index(row)
        rates = planner.rates[self.groups, np.minimum(index, planner.rates.shape[1] - 1)]
        price = float(np.median(rates[np.isfinite(rates)])) if np.isfinite(rates).any() else 1.0
        cost = np.where(finite, planner.damage + price * np.where(finite, planner.latency, 0.0), np.inf)
        cost -= cost.min(axis=1, keepdims=True)
        scale = float(np.median(cost[finite & (cost > 0)])) if (finite & (cost > 0)).any() else 1.0
        chance = np.where(finite, np.exp(-np.where(finite, cost, 0.0) / max(scale, 1e-12)), 0.0)
        return chance / chance.sum(axis=1, keepdims=True)
