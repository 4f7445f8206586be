"""What a search holds of the history: it warms the agent, and every trial is written down as it happens."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from ...errors import RunError
from ..search.budget import Budget
from ..search.environment import Walk
from ..search.past import HISTORY, OldTrial, Past, ahead_of
from ..search.space import Space
from ..search.trials import Trial, Trials
from .choosing import choose
from .records import RunRecord, past_from_json, past_to_json
from .store import History, history_path

__all__ = ["Keeper"]

log = logging.getLogger(__name__)


class Keeper:
    """The history of one search. Trouble with the store ends the keeping, never the search.

    What a run started from is kept in its own record, so that `--resume` finds it whatever became of the store.
    """

    def __init__(self, space: Space, record: RunRecord, past: Past | None, history: History | None) -> None:
        self.past = past
        """What there is to start from."""
        self._walk = Walk(Budget(space))
        self._space = space
        self._run = record
        self._history = history

    @classmethod
    def start(
        cls,
        space: Space,
        facts: Mapping[str, Any],
        trials: Trials,
        warn: Callable[[str], None],
        *,
        keep: bool,
        warm: bool = True,
    ) -> Self:
        """Begin or go on with the history of a search.

        Args:
            facts: the fields of `RunRecord` that the caller knows: model, graph, device, cpu, onnxruntime, precision,
                target, agent, seed, kind, weights, images.
            trials: the run's own record.
            warn: told in one line where the store cannot be used.
            keep: whether to write into the store, and to look into it.
            warm: whether to start from what is there.
        """
        known = trials.recall(HISTORY)
        if known is None:
            # A run that began without a history goes on without one.
            known = {"uid": uuid.uuid4().hex, "created": time.time(), "past": None, "keep": keep and not len(trials)}
            fresh = True
        else:
            fresh = False
        record = RunRecord(
            uid=known["uid"], created=known["created"], **facts, choices=space.choices, damage=space.damage
        )
        history: History | None = None
        past: Past | None = None
        if known["keep"]:
            try:
                history = History.open(history_path())
                if fresh and warm:
                    past = choose(history.records(), record, history.trials)
                history.begin(record)
            except RunError as error:
                warn(f"no history is kept of this run: {error}")
                history = None
        if fresh:
            trials.record(HISTORY, {**known, "past": None if past is None else past_to_json(past)})
        elif known["past"] is not None:
            past = past_from_json(known["past"])
        keeper = cls(space, record, past, history)
        for trial in trials:
            keeper.add(trial)
        return keeper

    def add(self, trial: Trial) -> None:
        """Write down a trial; nothing happens where there is no store, and a failure says nothing to others."""
        if self._history is None or trial.failed:
            return
        row = self._space.row(trial.plan)
        try:
            self._history.add(self._run.uid, trial.id, OldTrial(row, trial.outcome, ahead_of(self._walk, row)))
        except RunError as error:
            log.warning("no more history is kept of this run: %s", error)
            self.close()

    def close(self) -> None:
        """Let go of the store."""
        if self._history is not None:
            with suppress(RunError):
                self._history.close()
            self._history = None

    def note(self) -> str:
        """What the search starts from, in one line; empty where it starts from nothing."""
        if self.past is None:
            return ""
        labels = list(dict.fromkeys(f"{source.label} ({source.relation})" for source in self.past.sources))
        return (
            f"warm start from {self.past.trials} earlier candidates: {'; '.join(labels)}. "
            "--no-warm-start begins without"
        )
