"""Agents from other libraries: whatever learns on a gymnasium environment searches, in a thread of its own.

Such a learner drives: it steps through the environment and wants each plan's outcome at once. A search drives too: it
asks, evaluates as it sees fit, and tells. So the learner runs beside the search, and stands still while a plan of its
is evaluated: the two never run at the same time, and the same seed gives the same plans as far as the learner is
deterministic.

>>> class PPO(LearnerAgent):  # --agent my_module:PPO
...     def train(self, env):
...         stable_baselines3.PPO("MlpPolicy", env, seed=self.seed).learn(self.episodes * env.walk.steps)
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from queue import SimpleQueue

from ....errors import JobError
from ..budget import Row
from ..environment import PruningEnv
from ..space import Outcome, Space, Widths
from .base import BudgetAgent

__all__ = ["LearnerAgent"]

REPEATS = 64
"""Episodes in a row that may end in plans that are known, whose outcomes are given again: then one is changed."""


class LearnerAgent(BudgetAgent):
    """Asks for what a learner tries; subclasses say how it learns (`train`)."""

    def __init__(self, space: Space, episodes: int, seed: int) -> None:
        super().__init__(space, episodes, seed)
        self.seed = seed
        self.outcomes: dict[Row, Outcome] = {}
        self._rows: SimpleQueue[Row | None] = SimpleQueue()
        """From the learner; None when it has ended."""
        self._answers: SimpleQueue[Outcome] = SimpleQueue()
        self._repeats = 0
        self._waiting: Row | None = None
        """The plan whose outcome the learner waits for."""
        self._in_place: Row | None = None
        """What was asked for in its place: itself, unless it was known."""
        self._ended = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @abstractmethod
    def train(self, env: PruningEnv) -> None:
        """Learn on the environment, for about `episodes` episodes of `env.walk.steps` steps, seeded with `seed`.

        Raises:
            Exception: any; the search ends with it, as a `JobError`.
        """

    # -- in the learner's thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self.train(PruningEnv(self.space, self._evaluate, budget=self.budget))
        except Exception as error:  # noqa: BLE001 (it belongs to whoever asks, in another thread)
            self._error = error
        finally:
            self._rows.put(None)

    def _evaluate(self, plan: Widths) -> Outcome:
        row = self.space.row(plan)
        if row in self.outcomes and self._repeats < REPEATS:
            self._repeats += 1
            return self.outcomes[row]
        self._repeats = 0
        self._rows.put(row)
        return self._answers.get()

    # -- in the search's ---------------------------------------------------------------------------------------------

    def propose(self) -> Row:
        if self._waiting is not None:
            return self.planner.random()  # asked again before it was told: the learner does one thing at a time
        row = self._next()
        if row is None:
            return self.best[0] if self.best else self.budget.narrowest
        return row

    def _next(self) -> Row | None:
        """What the learner tries next; None when it has ended."""
        if self._ended:
            return None
        if self._thread.ident is None:
            self._thread.start()
        self._waiting = self._rows.get()
        if self._waiting is None:
            self._ended = True
            if self._error is not None:
                reason = f"{type(self._error).__name__}: {self._error}"
                raise JobError(f"{type(self).__name__}, the agent's learner, failed: {reason}") from self._error
        return self._waiting

    def ask(self) -> dict[str, int]:
        free = self._waiting is None
        plan = super().ask()
        if free and self._waiting is not None:
            self._in_place = self.space.row(plan)
        return plan

    def learn(self, row: Row, outcome: Outcome) -> None:
        self.outcomes[row] = outcome
        if self._waiting is not None and row == self._in_place:
            answer = self.outcomes.get(self._waiting, outcome)
            self._waiting = self._in_place = None
            self._answers.put(answer)
