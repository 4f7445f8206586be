"""A net that is ready to be handed out: a finalist after recovery, measured for the last time."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from itertools import islice

import onnx

from .. import graph
from ..errors import TargetError
from ..runtime import Ratio
from .facts import as_measured, provenance
from .files import sha256
from .finalists import MOST_RECOVERED, Finalists, Winner, convert, recover
from .job import Job
from .net import Net
from .rundir import RunDirectory
from .score import ClassScore, Score
from .search.evaluation import Evaluator
from .sitting import Sitting
from .subject import Subject
from .tuning import tune

__all__ = ["HandedOut", "hand_out"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HandedOut:
    """A finalist after recovery, ready to be written."""

    target: float
    """The ratio that it had to meet."""
    winner: Winner
    model: onnx.ModelProto = field(repr=False)
    latency: Ratio
    score: Score
    classes: tuple[ClassScore, ...]


def hand_out(
    job: Job,
    subject: Subject,
    evaluator: Evaluator,
    net: Net,
    candidates: Finalists,
    target: float,
    run: RunDirectory,
    sitting: Sitting,
) -> HandedOut:
    """Recover the best finalist and measure what will be handed out; the next one where that misses the target.

    Args:
        run: keeps the checkpoint of fine-tuning.

    Raises:
        TargetError: none meets the target, or the best one scores too little.
    """
    measured: list[float] = []
    stages, calibration = sitting.stages, subject.images.calibration.feeds()
    for winner in islice(candidates, MOST_RECOVERED):
        stages.end("finalists")
        recovered = recover(evaluator, subject.judge, net, winner, calibration, stages.end, job.seed)
        small = convert(evaluator, subject.judge, recovered, stages.end)
        # Teaching changes weights, not what is computed: a plan that misses the target does so before it is taught.
        latency = evaluator.meter.final(winner.trial.plan, graph.finish(small, {}), recovered=True, limit=target)
        stages.end("final measurement")
        if latency.value > target:
            measured.append(latency.value)
            candidates.missed(replace(winner, latency=latency))
            log.warning("finalist %d was measured at %.4f in the end, above the target", winner.trial.id, latency.value)
            continue
        if job.finetune is not None:
            small = convert(evaluator, subject.judge, tune(job, subject, recovered, run, sitting), stages.end)
        score, classes = subject.judge.detailed(small)
        stages.end("final score", score)
        if job.min_score is not None and score.value < job.min_score:
            raise TargetError(
                f"the best model that meets {target:.3g}x scores {score.value:.4f}, below --min-score "
                f"{job.min_score:g}; nothing was written, the search is kept in the run directory"
            )
        seen = replace(winner, latency=as_measured(winner.latency, evaluator.meter.by_device(winner.trial.plan)))
        header = provenance(
            job, sha256(job.model), seen, net.widths(winner.trial.plan), score, evaluator.meter.facts.spec
        )
        return HandedOut(target, winner, graph.finish(small, header), latency, score, classes)
    raise TargetError(
        f"{len(measured)} slim models that met {target:.3f}x before were measured at {min(measured):.3f}x and more in "
        "the end: the device is not steady; try again with --resume"
    )
