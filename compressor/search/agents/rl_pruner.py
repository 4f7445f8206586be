"""`rl-pruner`: RL-Pruner (Wang and Kindratenko, "RL-Pruner: Structured Pruning Using Reinforcement Learning for CNN
Compression and Acceleration", arXiv 2411.06463, section 3, and the authors' code Beryex/RLPruner-CNN).

The policy is a *pruning distribution* (PD): how the next step's pruning is shared among the groups. It starts in
proportion to their channels. The target is approached in steps; in each, noisy distributions are sampled, each is worth
Q = R + gamma * max Q of what was sampled after it, and the policy moves towards the best of them. Then one distribution
is executed, and the next step starts from its plan.

As published: Gaussian noise times a uniform factor and a floor, normalised; a buffer of the best (Q, PD) that replaces
its minimum and is cleared each step; PD += rate * (best - PD), the change of each entry clipped to
[1 - clip, 1 + clip], only when the best Q improves; epsilon-greedy execution, epsilon falling to 0 in the first
tenth; back to the uniform policy when the score falls by more than 10 % of itself. Where this departs from it:

1. A step removes a share of the latency, not a number of filters. The device's widths are coarse: a group goes down
   while its share of the step pays for the next width, and the largest remainders bring the plan to the step's budget.
   So steps are fewer and larger than published.
2. R is the score. All plans of one step cost the same, so there is nothing to weigh against it.
3. Sampling looks `lookahead` steps ahead along one path a sample, as many as the evaluations allow.
4. Units go in the order of the ranking, not of a Taylor score; a group may go whole where the space offers that.
5. Every candidate is corrected in closed form. The published recovery every few steps (distillation from the original,
   a better student becomes the teacher) needs training and is left out.
6. The score is that of images held out from the correction; the authors' code uses the test set.
7. After the last step its sampling goes on until the evaluations are spent.

Early plans miss the target: that is the algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..budget import Budget, Row
from ..space import Outcome, Space
from .base import BudgetAgent
from .planner import Planner
from .registry import register

__all__ = ["RLPruner", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters; published or reproduced values unless it says "ours"."""

    noise: float = 0.04
    """Scale of the Gaussian noise on the distribution."""
    floor: float = 1e-3
    """Least entry of a sampled distribution before it is normalised, relative to an even share (ours)."""
    rate: float = 0.1
    """Share of the way that the policy moves to the best sample."""
    gamma: float = 0.9
    """What a score one step later counts."""
    buffer: int = 10
    """Pairs of (Q, distribution) that are kept within a step."""
    clip: float = 0.2
    """Largest relative change of an entry of the policy at once."""
    epsilon: float = 0.4
    """Chance, at the start, that another than the best sample is executed."""
    epsilon_until: float = 0.1
    """Share of the episodes in which epsilon falls to 0."""
    collapse: float = 0.1
    """Relative fall of the score that resets the policy."""
    steps: int = 6
    """Steps to the target (ours)."""
    lookahead: int = 1
    """Steps that are sampled after each sample (ours)."""


@dataclass
class Path:
    """A sample of the current step and what was sampled after it."""

    distribution: np.ndarray
    rows: list[Row] = field(default_factory=list)
    """Plan of the sample, then of each further step."""
    scores: list[float] = field(default_factory=list)
    """Theirs, as far as they are known."""


@register("rl-pruner")
class RLPruner(BudgetAgent):
    """RL-Pruner on steps of latency; see the module's docstring."""

    stepwise = True

    def __init__(self, space: Space, episodes: int, seed: int, settings: Settings | None = None) -> None:
        super().__init__(space, episodes, seed)
        self.settings = s = settings or Settings()
        self.steps = max(1, min(s.steps, episodes // (2 * (1 + s.lookahead))))
        # In the last step nothing comes after a sample, so that a path there is one evaluation.
        paths = episodes / ((self.steps - 1) * (1 + s.lookahead) + 1)
        self.samples = max(1, round(paths))
        """Paths of one step."""
        channels = np.array([choice.size for choice in space.choices], dtype=float)
        self.uniform = channels / channels.sum()
        self.policy = self.uniform.copy()
        self.step = 1
        self.centre: Row = self.budget.full
        self.centre_score: float | None = None
        self.buffer: list[tuple[float, np.ndarray, Row, float]] = []
        """(Q, distribution, plan, score)."""
        self.best_q = -np.inf
        self.done = self.told = 0
        self.waiting: dict[Row, Path] = {}
        self.ready: list[Path] = []
        """Paths whose next step is to be asked for."""
        self.outcomes: dict[Row, Outcome] = {}

    # -- what to try -------------------------------------------------------------------------------------------------

    def propose(self) -> Row:
        row = self.centre
        for _ in range(32):
            path = self.ready.pop() if self.ready else Path(self._sample())
            self._current = path
            self._planner = self._at(self.step + len(path.rows))
            row = self._plan(path.rows[-1] if path.rows else self.centre, path.distribution)
            if row not in self.known:
                self.waiting[row] = path
                return row
            if row in self.outcomes:
                self._credit(path, row, self.outcomes[row])
        return row

    def vary(self, row: Row) -> Row | None:
        """Another plan of the same step, credited to the same distribution."""
        for attempt in range(64):
            varied = self._planner.mutate(row, moves=1 + attempt // 16)
            if varied not in self.known and self._planner.budget.fits(varied):
                self.waiting[varied] = self._current
                return varied
        return None

    def _sample(self) -> np.ndarray:
        """The policy under noise: normalise(max(PD + N(0, 1) * noise * U(0, 1), floor))."""
        s, groups = self.settings, len(self.policy)
        noisy = self.policy + self.rng.normal(size=groups) * s.noise * self.rng.random()
        drawn = np.maximum(noisy, s.floor / groups)
        return drawn / drawn.sum()

    def _at(self, step: int) -> Planner:
        """A planner for the budget of a step."""
        share = min(1.0, step / self.steps)
        target = 1.0 - (1.0 - self.space.target) * share
        return Planner(Budget(replace(self.space, target=target), self.budget.correction), self.rng)

    def _plan(self, start: Row, distribution: np.ndarray) -> Row:
        """`start` pruned to the step's budget, each group in proportion to its entry."""
        planner = self._planner
        index, groups = planner.index(start), np.arange(len(start))
        spent = np.zeros(len(start))
        while not planner.budget.fits(planner.row(index)):
            cost = planner.latency[groups, index] - planner.latency[groups, np.maximum(index - 1, 0)]
            # The group furthest behind its share of the latency removed goes next.
            due = np.where(index > 0, (spent + 0.5 * np.maximum(cost, 0.0)) / distribution, np.inf)
            group = int(due.argmin())
            if not np.isfinite(due[group]):
                break
            index[group] -= 1
            spent[group] += max(cost[group], 1e-9)
        return planner.row(index)

    # -- what to learn from it ---------------------------------------------------------------------------------------

    def learn(self, row: Row, outcome: Outcome) -> None:
        self.told += 1
        self.outcomes[row] = outcome
        path = self.waiting.pop(row, None)
        if path is not None:
            self._credit(path, row, outcome)

    def _credit(self, path: Path, row: Row, outcome: Outcome) -> None:
        """One more step of a path is known; finish the path, or line up its next step."""
        path.rows.append(row)
        path.scores.append(outcome.score if np.isfinite(outcome.ratio) else 0.0)
        further = min(self.settings.lookahead, self.steps - self.step)
        if len(path.rows) <= further:
            self.ready.append(path)
            return
        q = 0.0
        for score in reversed(path.scores):
            q = score + self.settings.gamma * q
        self._remember(q, path)
        self.done += 1
        if self.done >= self.samples and self.step < self.steps:
            self._execute()

    def _remember(self, q: float, path: Path) -> None:
        s = self.settings
        entry = (q, path.distribution, path.rows[0], path.scores[0])
        if len(self.buffer) < s.buffer:
            self.buffer.append(entry)
        else:
            least = min(range(len(self.buffer)), key=lambda i: self.buffer[i][0])
            if q > self.buffer[least][0]:
                self.buffer[least] = entry
        if q > self.best_q:
            self.best_q = q
            moved = self.policy + s.rate * (path.distribution - self.policy)
            self.policy = self.policy * np.clip(moved / self.policy, 1.0 - s.clip, 1.0 + s.clip)
            self.policy /= self.policy.sum()

    def _execute(self) -> None:
        """Take one sample's plan as the next start; reset the policy if the score collapsed."""
        s = self.settings
        best = max(self.buffer, key=lambda entry: entry[0])
        progress = self.told / max(1.0, s.epsilon_until * self.episodes)
        if self.rng.random() < s.epsilon * max(0.0, 1.0 - progress):
            best = self.buffer[int(self.rng.integers(len(self.buffer)))]
        _, _, self.centre, score = best
        if self.centre_score is not None and score < (1.0 - s.collapse) * self.centre_score:
            self.policy = self.uniform.copy()
        self.centre_score = score
        self.step += 1
        self.buffer, self.best_q, self.done = [], -np.inf, 0
        # Paths that began in the step before have no place in this one.
        self.waiting, self.ready = {}, []
