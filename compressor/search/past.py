"""What earlier searches leave to a new one: plain data between the history and the agents.

After Mu et al., "Boosting the Convergence of Reinforcement Learning-based Auto-pruning Using Historical Data" (arXiv
2107.08815): agents may start from it (transfer), keep sampling it while their own transitions are few (augmented
transfer), and learn from it which candidates are worth a real evaluation (assistant).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .budget import Row
from .environment import Walk, recorded_states
from .reward import reward
from .space import Choice, Outcome

__all__ = ["HISTORY", "Ahead", "OldTrial", "Past", "Relation", "Source", "ahead_of"]

HISTORY = "history"
"""Key of a run's own record: its identifier in the store, and what it started from."""
Relation = Literal["memory", "target", "device", "images", "weights", "model"]
"""What differs from the new search, the most telling difference: nothing (that is memory, not transfer), the target,
the device, the images that score, the weights of the same graph, the model."""

Ahead = tuple[tuple[float, float], ...]
"""At every step of a walk, and after it: predicted ratio if the groups to come stay full, and if all go narrow."""


@dataclass(frozen=True)
class OldTrial:
    """One evaluation of an earlier search."""

    row: Row
    outcome: Outcome
    ahead: Ahead = field(repr=False)


@dataclass(frozen=True)
class Source:
    """One earlier search."""

    label: str
    """For notes: model, target, device."""
    relation: Relation
    target: float
    choices: tuple[Choice, ...] = field(repr=False)
    damage: Mapping[str, Mapping[int, float]] = field(repr=False)
    trials: tuple[OldTrial, ...] = field(repr=False)

    def rewards(self) -> np.ndarray:
        """What each trial was worth (n,) for the source's own target."""
        return np.array([reward(trial.outcome, self.target) for trial in self.trials])

    def states(self, trial: OldTrial) -> np.ndarray:
        """States (steps + 1, state_size) of the walk that ended in a trial."""
        return recorded_states(self.choices, trial.ahead, trial.row, self.target)

    def actions(self, trial: OldTrial) -> np.ndarray:
        """Shares of units kept (steps,)."""
        return np.array(trial.row, np.float32) / np.array([choice.size for choice in self.choices], np.float32)

    def same_groups(self, choices: Sequence[Choice]) -> bool:
        """Whether its plans are plans for these choices."""
        return [(c.group, c.size) for c in self.choices] == [(c.group, c.size) for c in choices]


@dataclass(frozen=True)
class Past:
    """What a warm start has to go by, nearest first; never empty."""

    sources: tuple[Source, ...]

    @property
    def trials(self) -> int:
        return sum(len(source.trials) for source in self.sources)


def ahead_of(walk: Walk, row: Row) -> Ahead:
    """What the table says along a plan, to be kept with its outcome; four digits are all that it is worth."""
    budget = walk.budget
    return tuple(
        (
            round(budget.predicted((*row[:at], *budget.full[at:])), 4),
            round(budget.predicted((*row[:at], *budget.narrowest[at:])), 4),
        )
        for at in range(len(row) + 1)
    )
