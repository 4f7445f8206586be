"""From the trials of a search to the net that is handed out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import onnx

from ..errors import TargetError
from ..graph import slim, verify
from ..runtime import Ratio
from .net import Net
from .recovery import Feeds, reestimate, refit_sequentially
from .score import Score
from .search.evaluation import Evaluator
from .search.trials import Trial

__all__ = ["MOST_RECOVERED", "SEARCH_MARGIN", "Winner", "convert", "finalists", "recover"]

log = logging.getLogger(__name__)

MOST_FINALISTS = 12
"""Candidates that are measured thoroughly, best score first, until one meets the target."""
MOST_RECOVERED = 3
"""Finalists that are recovered, which takes longest of all, where the last measurement fails one."""
MOST_REFITS = 3
"""Passes of the sequential refit over the winner; a pass that does not raise the score is the last."""
SEARCH_MARGIN = 0.0075
"""Share of the target that the search leaves free: quick measurements scatter by about this much, and what wins among
many tends to be what came out low by chance."""


@dataclass(frozen=True)
class Winner:
    """The trial that won, and its thorough measurement."""

    trial: Trial
    latency: Ratio


def finalists(evaluator: Evaluator, trials: Sequence[Trial], target: float) -> Iterator[Winner]:
    """Trials that meet the target when they are measured thoroughly, best score first.

    Near misses of the quick measurement are tried too: they may have come out high by chance.

    Raises:
        TargetError: none of them meets the target (or none that is left, when the caller turned the others down).
    """
    if not trials:
        raise TargetError("the search was stopped before its first candidate: nothing to hand out")
    near = [trial for trial in trials if (trial.low if trial.low is not None else trial.ratio) <= target]
    fastest = min(trial.ratio for trial in trials)
    for trial in sorted(near, key=lambda trial: (-trial.score, trial.ratio))[:MOST_FINALISTS]:
        latency = evaluator.meter.final(trial.plan, evaluator.maker.deployed(trial.plan))
        log.info("finalist %d: score %.4f, ratio %.4f (quick %.4f)", trial.id, trial.score, latency.value, trial.ratio)
        if latency.value <= target:
            yield Winner(trial, latency)
        fastest = min(fastest, latency.value)
    raise TargetError(
        f"no candidate out of {len(trials)} meets --latency {target:.3g}x: the fastest was measured at {fastest:.3f}x; "
        "ask for less, or allow more --episodes"
    )


def convert(
    evaluator: Evaluator, recovered: onnx.ModelProto, on_stage: Callable[[str, Score], None]
) -> onnx.ModelProto:
    """What was recovered in fp32, in the precision that was asked for: the best of the ways to get there."""
    variants = []
    for name, model in evaluator.maker.converter.variants(recovered):
        score = evaluator.maker.scorer.score(model)
        on_stage(name, score)
        variants.append((score.for_search, model))
    return max(variants, key=lambda variant: variant[0])[1] if variants else recovered


def recover(
    evaluator: Evaluator,
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
    score = evaluator.maker.scorer.score(corrected)
    on_stage("correction of the winner", score)
    if net.composable:
        whole, analysis, gone = net.original, net.original_analysis, net.in_original(removal)
    else:
        whole, analysis, gone = evaluator.model, evaluator.analysis, removal
    best = corrected
    for _ in range(MOST_REFITS):
        refitted = refit_sequentially(whole, best, gone, calibration, analysis=analysis, seed=seed)
        after = evaluator.maker.scorer.score(refitted)
        on_stage("sequential refit", after)
        if after.for_search <= score.for_search:
            break
        best, score = refitted, after
    if any(node.op_type == "BatchNormalization" for node in best.graph.node):
        estimated = reestimate(best, calibration)
        after = evaluator.maker.scorer.score(estimated)
        on_stage("BatchNormalization re-estimated", after)
        if after.for_search > score.for_search:
            best = estimated
    return best
