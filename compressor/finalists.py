"""From the trials of a search to the net that is handed out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx

from ..errors import TargetError
from ..graph import slim, verify
from ..runtime import Ratio
from .net import Net
from .recovery import Feeds, reestimate, refit_sequentially
from .score import Score, Scorer
from .search.evaluation import Evaluator
from .search.trials import Trial

__all__ = ["MOST_RECOVERED", "SEARCH_MARGIN", "Finalists", "Winner", "convert", "recover"]

log = logging.getLogger(__name__)

MOST_MISSES = 12
"""Thorough measurements above the target after which it is given up."""
CAUTION = 0.0025
"""Share of the target that is left free for each of them."""
MOST_RECOVERED = 3
"""Finalists that are recovered, which takes longest of all, where the last measurement fails one."""
MOST_REFITS = 2
"""Passes of the sequential refit over the winner; a pass that does not raise the mark is the last."""
SEARCH_MARGIN = 0.0075
"""Share of the target that the search leaves free: quick measurements scatter by about this much, and what wins among
many tends to be what came out low by chance."""


@dataclass(frozen=True)
class Winner:
    """The trial that won, and its thorough measurement."""

    trial: Trial
    latency: Ratio


class Finalists:
    """Trials that meet the target when they are measured thoroughly, best score first.

    Near misses of the quick measurement are tried too: they may have come out high by chance. Where thorough
    measurements turn out higher than quick ones, trials that would miss the target by as much are passed over, with
    more caution after every miss: on a machine that has become busy all of the best would miss, one after the other.
    """

    def __init__(
        self, evaluator: Evaluator, trials: Sequence[Trial], target: float, *, exhausted: bool = False
    ) -> None:
        """`exhausted`: the search had nothing more to try; told to the user where none meets the target."""
        self._evaluator, self._target, self._exhausted = evaluator, target, exhausted
        self._left = sorted(trials, key=lambda trial: (-trial.score, trial.ratio))
        self._count = len(trials)
        self._fastest = min((trial.ratio for trial in trials), default=np.inf)
        self._drifts: list[float] = []
        """Logarithms of thorough over quick ratios."""
        self._misses = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Winner:
        """The next one.

        Raises:
            TargetError: none of them meets the target (or none that is left, when the caller turned the others down).
        """
        if not self._count:
            raise TargetError("the search was stopped before its first candidate: nothing to hand out")
        evaluator = self._evaluator
        while self._misses < MOST_MISSES and (trial := self._promising()) is not None:
            self._left.remove(trial)
            latency = evaluator.meter.final(trial.plan, evaluator.maker.deployed(trial.plan), limit=self._target)
            log.info(
                "finalist %d: score %.4f, ratio %.4f (quick %.4f)", trial.id, trial.score, latency.value, trial.ratio
            )
            winner = Winner(trial, latency)
            if latency.value <= self._target:
                self._drifts.append(np.log(latency.value / trial.ratio))
                return winner
            self.missed(winner)
        asked = f"--latency {self._target:.3g}x"
        if self._misses and self._fastest <= self._target:
            raise TargetError(
                f"{self._misses} candidates that seemed to meet {asked} missed it when they were measured thoroughly: "
                "the device is not steady; try again with --resume, or ask for less"
            )
        more = (
            "there is nothing else to try: ask for less"
            if self._exhausted
            else "ask for less, or allow more --episodes"
        )
        raise TargetError(
            f"no candidate out of {self._count} meets {asked}: the fastest was measured at {self._fastest:.3f}x; {more}"
        )

    def missed(self, winner: Winner) -> None:
        """Learn that one came out above the target, here or when the caller measured it again."""
        self._misses += 1
        self._drifts.append(np.log(winner.latency.value / winner.trial.ratio))

    def _promising(self) -> Trial | None:
        """The best trial left that should meet the target; the fastest one where caution leaves none.

        A trial that may have come out high by chance is tried where nothing has been learned yet, and before it is
        given up.
        """
        if not self._drifts:
            return next((trial for trial in self._left if _least(trial) <= self._target), None)
        # As if one measurement had agreed: a single one says little.
        drift = np.exp(sum(self._drifts) / (len(self._drifts) + 1))
        limit = self._target / drift
        cautious = (t for t in self._left if t.ratio <= limit * (1 - CAUTION * self._misses))
        possible = (t for t in self._left if _least(t) <= limit)
        return next(cautious, min(possible, key=lambda trial: trial.ratio, default=None))


def _least(trial: Trial) -> float:
    """The lower end of the quick measurement's interval."""
    return trial.ratio if trial.low is None else trial.low


def convert(
    evaluator: Evaluator, judge: Scorer, recovered: onnx.ModelProto, on_stage: Callable[[str, Score], None]
) -> onnx.ModelProto:
    """What was recovered in fp32, in the precision that was asked for: the best of the ways to get there."""
    variants = []
    for name, model in evaluator.maker.converter.variants(recovered):
        marked = judge.mark(model)
        on_stage(name, marked.score)
        variants.append((marked.mark, model))
    return max(variants, key=lambda variant: variant[0])[1] if variants else recovered


def recover(
    evaluator: Evaluator,
    judge: Scorer,
    net: Net,
    winner: Winner,
    calibration: Feeds,
    on_stage: Callable[[str, Score], None],
    seed: int,
) -> onnx.ModelProto:
    """The winner verified against the net that it comes from, then refitted layer by layer where that raises its score.

    The refit looks at the original, not at what earlier steps have made of it, where that can be told.

    Raises:
        VerificationError: the slim graph does not compute what it should.
    """
    removal = evaluator.maker.ranking.removal(winner.trial.plan)
    plain = slim(evaluator.model, removal, analysis=evaluator.analysis)
    verify(evaluator.model, plain, removal, analysis=evaluator.analysis)
    corrected = evaluator.maker.build(winner.trial.plan)
    best, marked = corrected, judge.mark(corrected)
    on_stage("correction of the winner", marked.score)
    if net.composable:
        whole, analysis, gone = net.original, net.original_analysis, net.in_original(removal)
    else:
        whole, analysis, gone = evaluator.model, evaluator.analysis, removal
    for _ in range(MOST_REFITS):
        refitted = refit_sequentially(whole, best, gone, calibration, analysis=analysis, seed=seed)
        after = judge.mark(refitted)
        on_stage("sequential refit", after.score)
        if after.mark <= marked.mark:
            break
        best, marked = refitted, after
    if any(node.op_type == "BatchNormalization" for node in best.graph.node):
        estimated = reestimate(whole, best, gone, calibration, analysis=analysis)
        after = judge.mark(estimated)
        on_stage("BatchNormalization re-estimated", after.score)
        if after.mark > marked.mark:
            best = estimated
    return best
