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
3. Sampling looks `lookahead` steps ahead, `branches` samples after each, as many as the evaluations allow.
4. Units go in the order of the ranking, not of a Taylor score; a group may go whole where the space offers that.
5. Every candidate is corrected in closed form. The published recovery every few steps (distillation from the original,
   a better student becomes the teacher) needs training and is left out.
6. The score is that of images held out from the correction; the authors' code uses the test set.
7. After the last step its sampling goes on until the evaluations are spent.
8. No plan is evaluated twice, and in a step a plan counts once. Widths are coarse, so that many distributions come to
   one plan: where sampling finds nothing new, a plan is changed in a few groups, and what comes of it is credited to
   the distribution that the plan was of. A step in which no plan is left ends early.

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

TRIES = 32
"""Samples that are drawn for a plan that is not known."""


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
    branches: int = 2
    """Samples of each of these, of which the best counts (ours)."""

    def tree(self, ahead: int) -> int:
        """Evaluations of a sample and of what is sampled in `ahead` steps after it."""
        return sum(self.branches**depth for depth in range(ahead + 1))


@dataclass(eq=False)
class Sample:
    """A distribution, the plan that it came to, and what was sampled after it."""

    distribution: np.ndarray
    before: Sample | None = None
    """What it was sampled after; None in the current step."""
    row: Row = ()
    score: float | None = None
    """None until it is known."""
    after: list[Sample] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """Steps after the current one."""
        return 0 if self.before is None else self.before.depth + 1

    @property
    def known(self) -> bool:
        """Whether its score and those of all that was sampled after it are known."""
        return self.score is not None and all(sample.known for sample in self.after)

    def q(self, gamma: float) -> float:
        """Q = R + gamma * max Q of what was sampled after it."""
        assert self.score is not None
        return self.score + gamma * max((sample.q(gamma) for sample in self.after), default=0.0)


@register("rl-pruner")
class RLPruner(BudgetAgent):
    """RL-Pruner on steps of latency; see the module's docstring."""

    stepwise = True

    def __init__(self, space: Space, episodes: int, seed: int, settings: Settings | None = None) -> None:
        super().__init__(space, episodes, seed)
        self.settings = s = settings or Settings()
        self.steps = max(1, min(s.steps, episodes // (2 * s.tree(s.lookahead))))
        # In the last step nothing comes after a sample, so that one there is a single evaluation.
        one_each = sum(s.tree(min(s.lookahead, self.steps - step)) for step in range(1, self.steps + 1))
        self.samples = max(1, round(episodes / one_each))
        """Samples of one step, not counting those that look ahead."""
        channels = np.array([choice.size for choice in space.choices], dtype=float)
        self.uniform = channels / channels.sum()
        self.policy = self.uniform.copy()
        self.step = 1
        self.centre: Row = self.budget.full
        self.centre_score: float | None = None
        self.buffer: list[tuple[float, np.ndarray, Row, float]] = []
        """(Q, distribution, plan, score)."""
        self.best_q = -np.inf
        self.done = 0
        self.waiting: dict[Row, Sample] = {}
        """What was asked for in this step, and is not told."""
        self.ready: list[Sample] = []
        """Further steps to be asked for."""
        self.credited: set[Row] = set()
        """Plans that counted as samples of this step."""
        self.outcomes: dict[Row, Outcome] = {}
        self._planners: dict[int, Planner] = {}

    # -- what to try -------------------------------------------------------------------------------------------------

    def propose(self) -> Row:
        row = self.centre
        for _ in range(TRIES):
            sample = self._next()
            row = self._plan(sample)
            if row not in self.known:
                self.waiting[row] = sample
                return row
            if row in self.outcomes and (sample.before is not None or row not in self.credited):
                self._credit(sample, row, self.outcomes[row])
            elif sample.before is not None:
                # Asked for, and not told yet: what this one comes after need not wait for the same plan twice.
                sample.distribution = self._sample()
                self.ready.append(sample)
        return row

    def vary(self, row: Row) -> Row | None:
        """A change of another sample's plan, which is credited with it; where none is left, the step ends."""
        while True:
            sample = self._next()
            planner, start = self._at(self.step + sample.depth), self._plan(sample)
            for attempt in range(64):
                varied = planner.mutate(start, moves=1 + attempt // 16)
                if varied not in self.known and planner.budget.fits(varied):
                    self.waiting[varied] = sample
                    return varied
            if sample.before is not None:
                sample.before.after.remove(sample)
                self._finish(sample.before)
            elif self.step < self.steps and self.buffer and not self.waiting:
                self._execute()
            else:
                return None

    def _next(self) -> Sample:
        """What is to be asked for next: a further step of a sample, or a sample of this step."""
        return self.ready.pop() if self.ready else Sample(self._sample())

    def _sample(self) -> np.ndarray:
        """The policy under noise: normalise(max(PD + N(0, 1) * noise * U(0, 1), floor))."""
        s, groups = self.settings, len(self.policy)
        noisy = self.policy + self.rng.normal(size=groups) * s.noise * self.rng.random()
        drawn = np.maximum(noisy, s.floor / groups)
        return drawn / drawn.sum()

    def _at(self, step: int) -> Planner:
        """A planner for the budget of a step, as the table is corrected now."""
        if step not in self._planners:
            target = 1.0 - (1.0 - self.space.target) * min(1.0, step / self.steps)
            budget = Budget(replace(self.space, target=target), self.budget.correction)
            self._planners[step] = Planner(budget, self.rng)
        return self._planners[step]

    def _plan(self, sample: Sample) -> Row:
        """What the sample follows, pruned to its step's budget, each group in proportion to its entry."""
        start = self.centre if sample.before is None else sample.before.row
        planner, distribution = self._at(self.step + sample.depth), sample.distribution
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
        self._planners.clear()
        self.outcomes[row] = outcome
        sample = self.waiting.pop(row, None)
        if sample is not None:
            self._credit(sample, row, outcome)

    def _credit(self, sample: Sample, row: Row, outcome: Outcome) -> None:
        """A sample's score is known: line up what is sampled after it, or see what it completes."""
        sample.row, sample.score = row, outcome.score if np.isfinite(outcome.ratio) else 0.0
        if sample.before is None:
            self.credited.add(row)
        if sample.depth < min(self.settings.lookahead, self.steps - self.step):
            sample.after = [Sample(self._sample(), sample) for _ in range(self.settings.branches)]
            self.ready.extend(sample.after)
        else:
            self._finish(sample)

    def _finish(self, sample: Sample) -> None:
        """Remember the sample of this step that `sample` goes back to, if all of it is known."""
        while sample.before is not None:
            sample = sample.before
        if sample.known:
            self._remember(sample)
            self.done += 1
            if self.done >= self.samples and self.step < self.steps:
                self._execute()

    def _remember(self, sample: Sample) -> None:
        s = self.settings
        assert sample.score is not None
        q = sample.q(s.gamma)
        entry = (q, sample.distribution, sample.row, sample.score)
        if len(self.buffer) < s.buffer:
            self.buffer.append(entry)
        else:
            least = min(range(len(self.buffer)), key=lambda i: self.buffer[i][0])
            if q > self.buffer[least][0]:
                self.buffer[least] = entry
        if q > self.best_q:
            self.best_q = q
            moved = self.policy + s.rate * (sample.distribution - self.policy)
            self.policy = self.policy * np.clip(moved / self.policy, 1.0 - s.clip, 1.0 + s.clip)
            self.policy /= self.policy.sum()

    def _execute(self) -> None:
        """Take one sample's plan as the next start; reset the policy if the score collapsed."""
        s = self.settings
        best = max(self.buffer, key=lambda entry: entry[0])
        progress = self.asked / max(1.0, s.epsilon_until * self.episodes)
        if self.rng.random() < s.epsilon * max(0.0, 1.0 - progress):
            best = self.buffer[int(self.rng.integers(len(self.buffer)))]
        _, _, self.centre, score = best
        if self.centre_score is not None and score < (1.0 - s.collapse) * self.centre_score:
            self.policy = self.uniform.copy()
        self.centre_score = score
        self.step += 1
        self.buffer, self.best_q, self.done = [], -np.inf, 0
        # What began in the step before has no place in this one.
        self.waiting, self.ready, self.credited = {}, [], set()
