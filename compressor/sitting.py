"""What happens while a job runs, for the report: steps with their seconds and scores, and notes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from rich.console import Console

from .progress import SearchProgress, TuningProgress
from .report import StageFacts
from .score import Score

__all__ = ["Sitting", "Stages"]

log = logging.getLogger(__name__)


@dataclass
class Stages:
    """Seconds and scores of the steps, as the report shows them."""

    started: float = field(default_factory=time.perf_counter)
    facts: list[StageFacts] = field(default_factory=list)
    prefix: str = ""
    """Before the names of the stages that end from now on."""

    def end(self, name: str, score: Score | None = None) -> float:
        """Close a step; its seconds."""
        now = time.perf_counter()
        name = self.prefix + name
        self.facts.append(StageFacts(name, now - self.started, None if score is None else score.value))
        log.info("%s: %.1f s%s", name, now - self.started, "" if score is None else f", score {score.value:.4f}")
        self.started = now
        return self.facts[-1].seconds


@dataclass
class Sitting:
    """What all steps of one run share and add to."""

    console: Console | None
    stages: Stages = field(default_factory=Stages)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say something now, and in the report."""
        self.notes.append(text)
        self.say(text)

    def say(self, text: str) -> None:
        """Say something now."""
        self.progress(0, 0).note(text)

    def progress(self, episodes: int, done: int) -> SearchProgress:
        """Of a search that has `done` of its `episodes` behind it."""
        return SearchProgress(episodes, done, console=self.console)

    def tuning(self) -> TuningProgress:
        """Of fine-tuning."""
        return TuningProgress(self.console)
