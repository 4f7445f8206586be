"""One candidate: from a plan to its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import onnx

from ...graph import ChannelAnalysis
from ..precision import Converter, Same
from ..progress import SearchProgress
from ..recovery.importance import Ranking
from ..score import Scorer
from .agents import Agent
from .meter import Meter
from .reward import better
from .space import Outcome, Widths
from .tally import Tally
from .trials import Trial, Trials

__all__ = ["SPENT", "Evaluator", "Searched", "search"]

SPENT = "spent"
"""Key of the trials' record under which the tally is kept."""
AGENT = "agent"
"""What `ask` and `tell` take is counted under this name."""


@dataclass(frozen=True)
class Evaluator:
    """Slims, corrects, scores and measures candidates of one model."""

    model: onnx.ModelProto
    analysis: ChannelAnalysis
    ranking: Ranking
    correct: Callable[[Mapping[str, tuple[int, ...]]], onnx.ModelProto]
    """From a removal to the slim net, corrected."""
    scorer: Scorer
    meter: Meter
    trials: Trials
    target: float | None = None
    """The ratio that is asked for: candidates that are clearly off are measured less thoroughly."""
    tally: Tally = field(default_factory=Tally)
    converter: Converter = field(default_factory=Same)
    """Into the precision that runs on the device."""

    def build(self, plan: Widths) -> onnx.ModelProto:
        """The slim net of a plan in fp32, corrected."""
        return self.correct(self.ranking.removal(plan))

    def deployed(self, plan: Widths) -> onnx.ModelProto:
        """The same in the precision that runs on the device."""
        return self.converter.quick(self.build(plan))

    def evaluate(self, plan: Widths) -> Trial:
        """Build, measure and score a plan; on disk when this returns."""
        started = time.perf_counter()
        with self.tally.timed("slimming and refitting"):
            candidate = self.build(plan)
        if self.converter.precision != "fp32":
            with self.tally.timed(f"conversion to {self.converter.precision}"):
                candidate = self.converter.quick(candidate)
        latency = self.meter.quick(plan, candidate, self.target)
        self.tally.add(latency.spent)
        with self.tally.timed("scoring"):
            score = self.scorer.score(candidate).for_search
        self.trials.record(SPENT, self.tally.seconds)
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
    agent: Agent,
    evaluator: Evaluator,
    episodes: int,
    target: float,
    before: Iterable[Trial],
    progress: SearchProgress,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Searched:
    """Ask, evaluate and tell until `episodes` trials are on record, or the agent has nothing new.

    Args:
        before: trials of the run that is resumed, which the agent has learned from already.
        on_trial: told of every new trial.

    Returns:
        What happened; trials that ended before a Ctrl-C count.
    """
    best: Trial | None = None
    done = 0
    thought = evaluator.tally.seconds.get(AGENT, 0.0)
    interrupted = False
    for trial in before:
        done += 1
        best = trial if better(trial.outcome, best.outcome if best else None, target) else best
    with progress:
        try:
            while done < episodes and not agent.exhausted:
                with evaluator.tally.timed(AGENT):
                    plan = agent.ask()
                if agent.exhausted and done:
                    break
                trial = evaluator.evaluate(plan)
                with evaluator.tally.timed(AGENT):
                    agent.tell(plan, trial.outcome)
                on_trial(trial)
                done += 1
                best = trial if better(trial.outcome, best.outcome if best else None, target) else best
                met = best is not None and best.ratio <= target
                progress.update(done, best.score if met and best else None, best.ratio if met and best else None)
        except KeyboardInterrupt:
            interrupted = True
    return Searched(evaluator.tally.seconds.get(AGENT, 0.0) - thought, interrupted)
