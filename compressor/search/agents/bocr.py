"""`bocr`: Bayesian optimisation with clustering and rollback (Fan et al., ECCV 2022, arXiv 2109.10591, section 3,
and the authors' code fanhanwei/BOCR). Needs botorch: `pip install ortrim[bo]`.

A Gaussian process models the score, expected improvement chooses the next plan. To begin with there is one ratio for
each cluster of layers (`clusters`), so that the process has few dimensions. When that no longer helps, the space is
rolled back to one ratio a layer, and what was evaluated so far is rewritten as the plans that were *executed*, layer by
layer, so that no evaluation is lost; the bounds of each layer are those of the ten best plans.

As published: 3 clusters, 6 for nets of depthwise layers; 10 Sobol points; expected improvement with a jitter of .01;
rollback watched for from evaluation 80, made after 20 evaluations without progress and at evaluation 100 at the latest;
direct, or gradual through 9 to 15 clusters first; executed ratios differ from proposed ones by AMC's walls. Departures:

1. Latency takes the place of FLOPs in the walls (`budget`), and ratios are snapped to the device's steps.
2. What the process sees of a plan is the mean share that its clusters *execute*, before the rollback too. So any plan
   can be learned from, whoever proposed it.
3. Rewards are in spreads, and cut off (`learning.in_spreads`): a plan that missed the target says nothing of how good
   its neighbours are.
4. With fewer than 200 evaluations the rollback comes as early in proportion.
5. Units go by the ranking of the search, not by L1; the refit is the search's.
6. That a net is one of depthwise layers is told from its groups (`depthwise`): the paper chose by the name of the net.
7. Ours: where the same groups were searched before, the best plans of then, brought to the new budget, take the place
   of the first Sobol points. Nothing else of the history is used: outcomes under another target would be points whose
   values do not compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....errors import InputError
from ..budget import Row
from ..environment import Walk
from ..past import Past
from ..reward import reward
from ..space import Choice, Outcome, Space
from .base import BudgetAgent
from .inherited import handed_down, learn_latency
from .learning import in_spreads, one_thread
from .registry import register

try:
    from .clusters import cluster
    from .surrogate import propose, sobol
except ImportError as error:
    raise InputError(
        f"the agent bocr needs botorch, which is not installed ({error.name}): pip install 'ortrim[bo]'"
    ) from error

__all__ = ["BOCR", "Settings", "depthwise"]

CLUSTERS, DEPTHWISE_CLUSTERS = 3, 6
"""Ratios to begin with: the paper's for ResNet-56, and for MobileNets."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters; the paper's or the authors' code's unless it says "ours"."""

    clusters: int | None = None
    """Ratios to begin with; None: as the paper has them for nets of this kind."""
    between: tuple[int, ...] = ()
    """Clusters in between (gradual rollback), e.g. (9, 15); empty is the direct rollback."""
    initial: int = 10
    """Sobol points before the process is asked."""
    jitter: float = 0.01
    """How much better than the best, in spreads, counts as an improvement."""
    watch: int = 80
    """Evaluations after which a standstill leads to the rollback."""
    latest: int = 100
    """Evaluations after which it comes in any case."""
    patience: int = 20
    """Evaluations without progress that are a standstill."""
    whole: int = 200
    """Evaluations that these three are meant for; with fewer they shrink in proportion (ours)."""
    best: int = 10
    """Plans that the bounds of the layers are taken from."""
    cutoff: float = 3.0
    """Rewards further from the median than this many spreads count as that far (ours)."""


def depthwise(choices: Sequence[Choice]) -> bool:
    """Whether most groups look like those of a MobileNet: made by a 1 x 1 convolution, with a layer between the one
    that makes the channels and the one that reads them. In a bottleneck of dense layers there is none in between."""
    alike = [c.features.get("kernel") == 1 and c.features.get("layers", 0) >= 3 for c in choices]
    return 2 * sum(alike) > len(choices)


@register("bocr")
class BOCR(BudgetAgent):
    """Bayesian optimisation with clustering and rollback; see the module's docstring.

    Raises:
        InputError: botorch is not installed.
    """

    def __init__(self, space: Space, episodes: int, seed: int, settings: Settings | None = None) -> None:
        super().__init__(space, episodes, seed)
        self.settings = s = settings or Settings()
        self.seed = seed
        self.walk = Walk(self.budget)
        groups = len(space.choices)
        first = s.clusters or (DEPTHWISE_CLUSTERS if depthwise(space.choices) else CLUSTERS)
        counts = dict.fromkeys([*(min(count, groups) for count in (first, *s.between)), groups])
        self.levels = [np.arange(groups) if count == groups else cluster(space.choices, count) for count in counts]
        """Cluster of each group, at every stage of the rollback; each group alone at the end."""
        self.level = 0
        scale = min(1.0, episodes / s.whole)
        self.watch, self.latest, self.patience = (max(1, round(scale * n)) for n in (s.watch, s.latest, s.patience))
        self.progress = 0
        """How much had been asked for at the last progress."""
        self.shares: list[np.ndarray] = []
        """Executed share of units kept (groups,) of every plan told."""
        self.values: list[float] = []
        self.handed_down: list[Row] = []
        """Plans of earlier searches, the best last; they are asked for first."""
        self.low, self.high = self._bounds()

    def warm(self, past: Past) -> bool:
        learn_latency(past, self.budget)
        self.handed_down = handed_down(past, self.planner)
        return bool(self.handed_down)

    # -- what to try -------------------------------------------------------------------------------------------------

    def propose(self) -> Row:
        while self.handed_down and self.asked <= self.settings.initial:
            row = self.handed_down.pop()
            if row not in self.known and self.budget.fits(row):
                return row
        if self.asked <= self.settings.initial or len(self.values) < 2:
            point = sobol(len(self.low), self.asked, self.seed)
            return self._execute(self.low + point * (self.high - self.low))
        with one_thread():
            return self._execute(self._improvement())

    def _improvement(self) -> np.ndarray:
        """The shares of most expected improvement (dimensions,)."""
        rewards = np.array(self.values)[:, None]
        values = in_spreads(rewards, self.values, self.settings.cutoff)[:, 0]
        # A cluster of groups that have a single width each spans nothing.
        points = (self._seen() - self.low) / np.maximum(self.high - self.low, 1e-6)
        point = propose(points, values, jitter=self.settings.jitter, seed=self.seed + self.asked)
        return self.low + point * (self.high - self.low)

    def _execute(self, shares: np.ndarray) -> Row:
        """The plan of these shares, each clipped to the walls of the budget and snapped to the device's steps."""
        wanted = shares[self.levels[self.level]]
        row: Row = ()
        for at in range(self.walk.steps):
            row = (*row, self.walk.width(row, float(wanted[at])))
        return row

    def _seen(self) -> np.ndarray:
        """The plans told (n, dimensions) as the process sees them: mean executed share of each cluster."""
        numbers = self.levels[self.level]
        member = (numbers[:, None] == np.arange(numbers.max() + 1)).astype(float)
        return np.stack(self.shares) @ (member / member.sum(axis=0))

    # -- what to learn from it ---------------------------------------------------------------------------------------

    def learn(self, row: Row, outcome: Outcome) -> None:
        value = reward(outcome, self.space.target)
        if not self.values or value > max(self.values):
            self.progress = self.asked
        self.shares.append(np.array(row, dtype=float) / np.array(self.budget.full))
        self.values.append(value)
        last = len(self.levels) - 1
        # Each stage in between gets as long as the clusters had at the latest.
        due = self.latest * (self.level + 1)
        watched = self.asked >= self.watch * (self.level + 1)
        idle = self.asked - self.progress
        if self.level < last and (self.asked >= due or (watched and idle >= self.patience)):
            self.level += 1
            self.progress = self.asked
            self.low, self.high = self._bounds()

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest share (dimensions,) that is proposed: all there is, or what the best plans span."""
        numbers = self.levels[self.level]
        dimensions = range(int(numbers.max()) + 1)
        floor = np.array([widths[0] / widths[-1] for widths in self.budget.widths])
        if not self.shares or self.level == 0:
            return np.array([floor[numbers == d].min() for d in dimensions]), np.ones(len(dimensions))
        order = np.argsort(self.values)[::-1][: self.settings.best]
        seen = self._seen()[order]
        low, high = seen.min(axis=0), seen.max(axis=0)
        # Where the best plans agree there is still a step to either side.
        step = np.array([self._step(numbers == d) for d in dimensions])
        return np.maximum(low - step, 0.0), np.minimum(high + step, 1.0)

    def _step(self, members: np.ndarray) -> float:
        """Mean difference of neighbouring widths, as a share, among the groups of a cluster."""
        widths = [np.array(self.budget.widths[g], dtype=float) for g in np.flatnonzero(members)]
        return float(np.mean([(w[-1] - w[0]) / w[-1] / max(1, len(w) - 1) for w in widths])) + 1e-3
