"""One candidate: from a plan to its outcome."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from ...graph import ChannelAnalysis, slim
from ..progress import SearchProgress
from ..recovery.importance import Ranking
from ..recovery.refit import Refitter
from ..score import Scorer
from .agents import Agent
from .meter import Meter
from .reward import better
from .space import Outcome, Widths
from .trials import Trial, Trials

__all__ = ["Evaluator", "Searched", "search"]


@dataclass(frozen=True)
class Evaluator:
    """Slims, corrects, scores and measures candidates of one model."""

    model: onnx.ModelProto
    analysis: ChannelAnalysis
    ranking: Ranking
    refitter: Refitter
    scorer: Scorer
    meter: Meter
    trials: Trials

    def build(self, plan: Widths) -> onnx.ModelProto:
        """The slim net of a plan, its consumers refitted."""
        removal = self.ranking.removal(plan)
        return slim(self.refitter(removal), removal, analysis=self.analysis)

    def evaluate(self, plan: Widths) -> Trial:
        """Build, measure and score a plan; on disk when this returns."""
        started = time.perf_counter()
        candidate = self.build(plan)
        latency = self.meter.quick(plan, candidate)
        score = self.scorer.score(candidate).for_search
        outcome = Outcome(score, latency.ratio, time.perf_counter() - started)
        return self.trials.add(
            plan,
            outcome,
            low=latency.low,
            high=latency.high,
            baseline_ms=latency.baseline_ms,
            candidate_ms=latency.candidate_ms,
        )


@dataclass(frozen=True)
class Searched:
    """How a search went."""

    agent_seconds: float
    """Spent in `ask` and `tell`."""
    interrupted: bool
    """Whether Ctrl-C ended it."""


def search(
    agent: Agent, evaluator: Evaluator, episodes: int, target: float, before: Iterable[Trial], progress: SearchProgress
) -> Searched:
    """Ask, evaluate and tell until `episodes` trials are on record, or the agent has nothing new.

    Args:
        before: trials of the run that is resumed, which the agent has learned from already.

    Returns:
        What happened; trials that ended before a Ctrl-C count.
    """
    best: Trial | None = None
    done = 0
    thinking = 0.0
    for trial in before:
        done += 1
        best = trial if better(trial.outcome, best.outcome if best else None, target) else best
    with progress:
        try:
            while done < episodes and not agent.exhausted:
                started = time.perf_counter()
                plan = agent.ask()
                thinking += time.perf_counter() - started
                if agent.exhausted and done:
                    break
                trial = evaluator.evaluate(plan)
                started = time.perf_counter()
                agent.tell(plan, trial.outcome)
                thinking += time.perf_counter() - started
                done += 1
                best = trial if better(trial.outcome, best.outcome if best else None, target) else best
                met = best is not None and best.ratio <= target
                progress.update(done, best.score if met and best else None, best.ratio if met and best else None)
        except KeyboardInterrupt:
            return Searched(thinking, interrupted=True)
    return Searched(thinking, interrupted=False)
