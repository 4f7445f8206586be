"""The contract of every agent, and the part that those which use the latency table share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..budget import Budget, Row
from ..past import Past
from ..reward import better
from ..rounds import ask_round
from ..space import Outcome, Space, Widths
from .planner import Planner

__all__ = ["Agent", "BudgetAgent", "Replayed", "replay"]


class Agent(ABC):
    """Proposes plans and learns from what came of them.

    1. `ask` gives a whole plan, every width one that its choice offers. It may be called again before `tell`.
    2. `tell` takes any plan of the space, asked for or not.
    3. The same constructor arguments and the same sequence of calls give the same plans: randomness comes from the seed
       alone, and nothing depends on the clock. A past that it was warmed with is one of the arguments.

    Rule 3 makes these two verbs enough to resume a search: see `replay`.
    """

    stepwise: ClassVar[bool] = False
    """Whether it comes to the target in steps, so that early plans are meant to miss it."""

    @abstractmethod
    def ask(self) -> dict[str, int]:
        """The next plan to evaluate: group name -> units kept, every group named."""

    @abstractmethod
    def tell(self, plan: Widths, outcome: Outcome) -> None:
        """Learn what came of `plan`.

        Raises:
            PlanError: `plan` does not fit the space.
        """

    def warm(self, past: Past) -> bool:
        """Start from what earlier searches left; called before the first `ask` or not at all.

        Returns:
            Whether the agent makes use of it.
        """
        return False

    @property
    def exhausted(self) -> bool:
        """True when nothing new is left to ask for: further plans repeat earlier ones, so a search may as well end."""
        return False


@dataclass(frozen=True)
class Replayed:
    """How an agent came to the state it had after some trials."""

    foreign: int
    """How many trials the agent would not have asked for. 0 means that they are its own, and the search goes on
    exactly as if it had not been interrupted; others are learned from all the same."""
    pending: tuple[dict[str, int], ...]
    """What it asked for after that, and was not told of."""


def replay(agent: Agent, trials: Sequence[tuple[Widths, Outcome]], jobs: int = 1) -> Replayed:
    """Bring a fresh agent to the state it had after `trials`, by asking and telling as the search did.

    Args:
        jobs: plans that the search asked for at a time.
    """
    foreign = told = count = 0
    asked: list[dict[str, int]] = []
    while told < len(trials):
        # The first plan of each round was evaluated, or there would be no trial.
        asked = ask_round(agent, jobs, any_before=False)
        count = min(len(asked), len(trials) - told)
        for own, (plan, outcome) in zip(asked, trials[told : told + count], strict=False):
            foreign += own != dict(plan)
            agent.tell(plan, outcome)
        told += count
    return Replayed(foreign, tuple(asked[count:]))


class BudgetAgent(Agent):
    """An agent that keeps to the latency budget: it corrects the table, tries no plan twice and knows the best so far.

    Subclasses say what to try (`propose`) and, if they learn, how (`learn`).

    Raises:
        NothingToPruneError: the space has no choice.
    """

    def __init__(self, space: Space, episodes: int, seed: int) -> None:
        self.space = space
        self.episodes = episodes
        self.rng = np.random.default_rng(seed)
        self.budget = Budget(space)
        self.planner = Planner(self.budget, self.rng)
        self.known: set[Row] = set()
        """Every plan that was asked for or told."""
        self.best: tuple[Row, Outcome] | None = None
        self.asked = 0
        """Plans that it was asked for, the one in hand included. Schedules count these: `tell` brings outcomes of plans
        from elsewhere too (those of the other targets of a front, for one), and they are no progress of this search."""
        self._exhausted = False

    @property
    def exhausted(self) -> bool:
        return self._exhausted

    @abstractmethod
    def propose(self) -> Row:
        """A plan worth trying; if it is known already, `vary` gets to change it."""

    def learn(self, row: Row, outcome: Outcome) -> None:
        """Learn from an outcome; the table's correction and the best plan are up to date already."""

    def vary(self, row: Row) -> Row | None:
        """A plan near `row` that is not known, or None."""
        for attempt in range(64):
            varied = self.planner.mutate(row, moves=1 + attempt // 16)
            if varied not in self.known and self.budget.fits(varied):
                return varied
        return None

    def ask(self) -> dict[str, int]:
        self.asked += 1
        row = self.propose()
        new = row if row not in self.known else self.vary(row)
        self._exhausted = new is None
        # Nothing new: repeat the plan, or what the space offers nearest to it if it came from elsewhere.
        row = new or self.planner.nearest(row)
        self.known.add(row)
        return self.space.plan(row)

    def tell(self, plan: Widths, outcome: Outcome) -> None:
        row = self.space.row(plan)
        self.known.add(row)
        self.budget.observe(row, outcome.ratio)
        if better(outcome, self.best[1] if self.best else None, self.space.target):
            self.best = (row, outcome)
        self.learn(row, outcome)
