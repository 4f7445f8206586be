"""From plans to their outcomes, and the loop of a search."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx

from ...graph import ChannelAnalysis
from ..progress import SearchProgress
from .agents import Agent
from .meter import Meter
from .reward import better
from .scoring import Maker, Workers
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
    """Builds, scores, measures and writes down candidates of one model."""

    model: onnx.ModelProto
    analysis: ChannelAnalysis
    workers: Workers
    meter: Meter
    trials: Trials
    target: float | None = None
    """The ratio that is asked for: candidates that are clearly off are measured less thoroughly."""
    tally: Tally = field(default_factory=Tally)

    @property
    def maker(self) -> Maker:
        """What builds and scores, in this process."""
        return self.workers.maker

    def evaluate(self, plans: Sequence[Widths]) -> Iterator[Trial]:
        """Score all plans, as many at a time as there are workers, then measure one after the other.

        A trial is on disk when it is handed out.
        """
        began = time.perf_counter()
        scored = self.workers.score(plans)
        each = (time.perf_counter() - began) / max(1, len(plans))
        for plan, candidate in zip(plans, scored, strict=True):
            started = time.perf_counter()
            # Several at a time: what counts is the time that passed.
            spent = sum(candidate.spent.values())
            self.tally.add({name: seconds * min(1.0, each / spent) for name, seconds in candidate.spent.items()})
            latency = self.meter.quick(plan, candidate.model, self.target)
            self.tally.add(latency.spent)
            self.trials.record(SPENT, self.tally.seconds)
            outcome = Outcome(candidate.score, latency.ratio, each + time.perf_counter() - started)
            yield self.trials.add(
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
    before: Sequence[Trial],
    progress: SearchProgress,
    *,
    pending: Sequence[Widths] = (),
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Searched:
    """Ask, evaluate and tell until `episodes` trials are on record, or the agent has nothing new.

    Args:
        before: trials of the run that is resumed, which the agent has learned from already.
        pending: plans that it asked for and that were not evaluated any more.
        on_trial: told of every new trial.

    Returns:
        What happened; trials that ended before a Ctrl-C count.
    """
    best: Trial | None = None
    for trial in before:
        best = trial if better(trial.outcome, best.outcome if best else None, target) else best
    done = len(before)
    thought = evaluator.tally.seconds.get(AGENT, 0.0)
    interrupted = False
    with progress:
        try:
            while done < episodes and not (done and agent.exhausted):
                with evaluator.tally.timed(AGENT):
                    plans = list(pending)[: episodes - done] or _ask(
                        agent, min(evaluator.workers.jobs, episodes - done), bool(done)
                    )
                pending = ()
                if not plans:
                    break
                for trial in evaluator.evaluate(plans):
                    with evaluator.tally.timed(AGENT):
                        agent.tell(trial.plan, trial.outcome)
                    on_trial(trial)
                    done += 1
                    best = trial if better(trial.outcome, best.outcome if best else None, target) else best
                    met = best is not None and best.ratio <= target
                    progress.update(done, best.score if met and best else None, best.ratio if met and best else None)
        except KeyboardInterrupt:
            interrupted = True
    return Searched(evaluator.tally.seconds.get(AGENT, 0.0) - thought, interrupted)


def _ask(agent: Agent, count: int, any_before: bool) -> list[dict[str, int]]:
    """Plans to evaluate at a time; none where the agent has nothing new. The very first is evaluated in any case."""
    plans: list[dict[str, int]] = []
    while len(plans) < count:
        plan = agent.ask()
        if agent.exhausted and (plans or any_before):
            break
        plans.append(plan)
    return plans
