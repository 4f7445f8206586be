"""The environment that an agent walks: one group a step, in graph order, as in AMC (He et al., ECCV 2018, section 3).

`Walk` is the walking alone: states, and actions turned into widths. `PruningEnv` is a gymnasium environment around it
that evaluates the finished plan, so that agents from other libraries can be used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from .budget import Budget
from .reward import reward
from .space import Choice, Outcome, Space, Widths

__all__ = ["PruningEnv", "Walk", "recorded_states"]

# Where a feature's logarithm reaches 1. Fixed scales rather than the extremes of one model (AMC's choice), so that a
# state means the same in every model and what one search learned can serve another.
LARGEST = {
    "c_in": 4096.0,
    "c_out": 4096.0,
    "kernel": 15.0,
    "stride": 7.0,
    "height": 1024.0,
    "width": 1024.0,
    "macs": 1e11,
    "parameters": 1e9,
    "layers": 63.0,
}


def facts(choice: Choice, position: float, largest_damage: float) -> list[float]:
    """The part of the state that does not change during an episode; every entry in [0, 1], 0 where unknown."""
    known = choice.features
    logs = [math.log1p(max(known.get(name, 0.0), 0.0)) / math.log1p(most) for name, most in LARGEST.items()]
    return [
        position,
        *logs,
        math.log1p(choice.size) / math.log1p(LARGEST["c_out"]),
        choice.widths[0] / choice.size,
        known.get("latency", 0.0),
        known.get("damage", 0.0) / largest_damage,
    ]


def _facts(choices: Sequence[Choice]) -> np.ndarray:
    """The facts (groups, entries) of all choices."""
    largest = max(choice.features.get("damage", 0.0) for choice in choices) or 1.0
    return np.array([facts(choice, i / len(choices), largest) for i, choice in enumerate(choices)], dtype=np.float32)


def _state(static: np.ndarray, at: int, ahead: tuple[float, float], target: float, previous: float) -> np.ndarray:
    """The state before step `at`; `ahead`: predicted ratio if all that follows stays full, and if it goes narrow."""
    if_full, if_narrowest = ahead
    moving = [1.0 - if_full, if_full - target, if_full - if_narrowest, previous]
    state = np.concatenate([static[min(at, len(static) - 1)], np.array(moving, dtype=np.float32)])
    if at == len(static):
        state[0] = 1.0
    return np.clip(state, 0.0, 1.0)


def recorded_states(
    choices: Sequence[Choice], ahead: Sequence[tuple[float, float]], row: Sequence[int], target: float
) -> np.ndarray:
    """The states (steps + 1, state_size) of a walk in another search, from what was kept of it (`past.ahead_of`)."""
    static = _facts(choices)
    shares = [1.0, *(width / choice.size for width, choice in zip(row, choices, strict=True))]
    return np.stack([_state(static, at, ahead[at], target, shares[at]) for at in range(len(row) + 1)])


class Walk:
    """States and actions over a space.

    State (float32 in [0, 1]): AMC's entries with latency in place of FLOPs, and what is known of damage. Position;
    c_in, c_out, kernel, stride, height, width, MACs, parameters and layers of the group (logarithms); units; narrowest
    share; share of latency; damage at half width, relative to the largest. Then, under the choices made so far: latency
    saved, latency still to save, latency that the rest can save at most, and the previous action.

    Latencies are the table's own, uncorrected, so that a state means the same throughout a search.
    """

    def __init__(self, budget: Budget, *, lower_wall: bool = True) -> None:
        self.budget = budget
        self.lower_wall = lower_wall
        self._static = _facts(budget.space.choices)
        self.state_size = self._static.shape[1] + 4

    @property
    def steps(self) -> int:
        """Groups to walk."""
        return len(self._static)

    def state(self, prefix: Sequence[int]) -> np.ndarray:
        """State (state_size,) in which the width of group `len(prefix)` is chosen; after the last group, the end."""
        budget, row, at = self.budget, tuple(prefix), len(prefix)
        if_full = budget.predicted((*row, *budget.full[at:]))
        if_narrowest = budget.predicted((*row, *budget.narrowest[at:]))
        previous = row[-1] / budget.full[at - 1] if row else 1.0
        return _state(self._static, at, (if_full, if_narrowest), budget.space.target, previous)

    def states(self, row: Sequence[int]) -> np.ndarray:
        """All states (steps + 1, state_size) of the episode that ends in `row`."""
        return np.stack([self.state(row[:at]) for at in range(self.steps + 1)])

    def actions(self, row: Sequence[int]) -> np.ndarray:
        """Actions (steps,) that `row` stands for: the share of units kept in each group."""
        return np.array(row, dtype=np.float32) / np.array(self.budget.full, dtype=np.float32)

    def width(self, prefix: Sequence[int], action: float) -> int:
        """The width nearest to `action` (share of units kept) between the walls; the wider of two as near."""
        low, high = self.budget.bounds(prefix, lower=self.lower_wall)
        wanted = action * self.budget.full[len(prefix)]
        allowed = [width for width in self.budget.widths[len(prefix)] if low <= width <= high]
        return min(reversed(allowed), key=lambda width: abs(width - wanted))


class PruningEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One episode chooses one plan.

    Action: Box(1) in [0, 1], the share of the group's units to keep; it is clipped to the walls of the budget and
    snapped to the device's steps. Reward: 0 until the last group, then `reward(outcome, target)` of the finished plan.
    `info` of the last step carries `plan` and `outcome`.

    Args:
        space: choices, latency table and target.
        evaluate: slims, corrects, scores and measures one plan.
        budget: of a search, which corrects it; by default the environment has its own, and corrects it by what it sees.
        lower_wall: also stop pruning where the target is met already (see `Budget.bounds`).

    Raises:
        NothingToPruneError: the space has no choice.
    """

    def __init__(
        self,
        space: Space,
        evaluate: Callable[[Widths], Outcome],
        *,
        budget: Budget | None = None,
        lower_wall: bool = True,
    ) -> None:
        self.space = space
        self.evaluate = evaluate
        self.walk = Walk(budget or Budget(space), lower_wall=lower_wall)
        self._corrects = budget is None
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (self.walk.state_size,), np.float32)
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self._row: list[int] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._row = []
        return self.walk.state(self._row), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if len(self._row) == self.walk.steps:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset() before step()")
        self._row.append(self.walk.width(self._row, float(np.asarray(action).item())))
        state = self.walk.state(self._row)
        if len(self._row) < self.walk.steps:
            return state, 0.0, False, False, {}
        plan = self.space.plan(self._row)
        outcome = self.evaluate(plan)
        if self._corrects:
            self.walk.budget.observe(tuple(self._row), outcome.ratio)
        return state, reward(outcome, self.space.target), True, False, {"plan": plan, "outcome": outcome}
