"""From plans to their outcomes, and the loop of a search."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx

from ...errors import JobError, OrtrimError
from ...graph import ChannelAnalysis
from ..progress import SearchProgress
from .agents import Agent
from .meter import Meter, Quick
from .reward import better
from .rounds import ask_round
from .scoring import FAULTS, Failed, Maker, Scored, Workers
from .space import Outcome, Widths
from .tally import Tally
from .trials import Trial, Trials

__all__ = ["MOST_FAILURES", "SPENT", "Evaluator", "Searched", "search"]

log = logging.getLogger(__name__)

SPENT = "spent"
"""Key of the trials' record under which the tally is kept."""
AGENT = "agent"
"""What `ask` and `tell` take is counted under this name."""
MOST_FAILURES = 3
"""Candidates in a row that may fail: one or two are their own fault, more are that of the model or the device."""


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
    failures: list[OrtrimError] = field(default_factory=list)
    """Why the last candidates failed, one after the other; empty after one that did not."""

    @property
    def maker(self) -> Maker:
        """What builds and scores, in this process."""
        return self.workers.maker

    def evaluate(self, plans: Sequence[Widths]) -> Iterator[Trial]:
        """Score all plans, as many at a time as there are workers, then measure one after the other.

        A trial is on disk when it is handed out, that of a candidate which fails too. Latency is never measured while
        others are scored, so that a process which is killed while it scores loses as many as it has workers.

        Raises:
            OrtrimError: so many in a row failed (`MOST_FAILURES`), or the device was lost.
        """
        began = time.perf_counter()
        scored = self.workers.score(plans)
        each = (time.perf_counter() - began) / max(1, len(plans))
        for plan, candidate in zip(plans, scored, strict=True):
            started = time.perf_counter()
            found = candidate if isinstance(candidate, Failed) else self._measured(plan, candidate, each)
            self.trials.record(SPENT, self.tally.seconds)
            seconds = each + time.perf_counter() - started
            if isinstance(found, Failed):
                yield self._failed(plan, found.error, seconds)
                if len(self.failures) == MOST_FAILURES:
                    raise self.failures[-1]
                continue
            self.failures.clear()
            score, latency = found
            yield self.trials.add(
                plan,
                Outcome(score, latency.ratio, seconds),
                low=latency.low,
                high=latency.high,
                baseline_ms=latency.baseline_ms,
                candidate_ms=latency.candidate_ms,
            )

    def _measured(self, plan: Widths, candidate: Scored, each: float) -> tuple[float, Quick] | Failed:
        """Score and latency of a candidate whose scoring took `each` seconds of the time that passed.

        Raises:
            OrtrimError: the device was lost.
        """
        # Several at a time: what counts is the time that passed.
        spent = sum(candidate.spent.values())
        self.tally.add({name: seconds * min(1.0, each / spent) for name, seconds in candidate.spent.items()})
        try:
            latency = self.meter.quick(plan, candidate.model, self.target)
        except FAULTS as error:
            try:
                self.meter.check()
            except OrtrimError as lost:
                log.info("nor does the device run the original any more: %s", lost)
                raise error from None
            return Failed(error)
        self.tally.add(latency.spent)
        numbers = (candidate.score, latency.ratio, latency.low, latency.high, latency.baseline_ms, latency.candidate_ms)
        if not all(map(math.isfinite, numbers)):
            return Failed(JobError(f"a candidate scored {candidate.score} at {latency.ratio}x: no numbers to go by"))
        return candidate.score, latency

    def _failed(self, plan: Widths, error: OrtrimError, seconds: float) -> Trial:
        """Write down a candidate that failed, and why in the log."""
        self.failures.append(error)
        trial = self.trials.add_failed(plan, seconds)
        log.warning("candidate %d failed: %s", trial.id, " ".join(str(error).split()))
        return trial


@dataclass(frozen=True)
class Searched:
    """How a search went."""

    agent_seconds: float
    """Spent in `ask` and `tell`, in the sittings before, too."""
    interrupted: bool
    """Whether Ctrl-C ended it."""
    exhausted: bool = False
    """Whether the agent had nothing more to ask for: more episodes would not help."""


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

    Raises:
        OrtrimError: see `Evaluator.evaluate`; or every single candidate failed.
    """
    best: Trial | None = None
    for trial in before:
        best = trial if better(trial.outcome, best.outcome if best else None, target) else best
    done = len(before)
    interrupted = exhausted = False
    with progress:
        try:
            while done < episodes:
                with evaluator.tally.timed(AGENT):
                    plans = list(pending)[: episodes - done] or ask_round(
                        agent, min(evaluator.workers.jobs, episodes - done), bool(done)
                    )
                pending = ()
                if not plans:
                    exhausted = True
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
    if not interrupted and evaluator.failures and len(evaluator.failures) == done:
        raise evaluator.failures[-1]
    return Searched(evaluator.tally.seconds.get(AGENT, 0.0), interrupted, exhausted)
