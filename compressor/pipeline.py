"""The job on one page: a model, a latency target and some images go in, a slim model and a report come out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console

from .. import graph
from ..errors import InputError, OrtrimError, TargetError
from ..runtime import Ratio
from .data import Preprocessing
from .distill import Settings as Finetuning
from .facts import describe, provenance
from .files import check_output, sha256, write_whole
from .finalists import MOST_RECOVERED, Winner, convert, recover
from .job import Job
from .net import Net
from .report import ReportData, SearchFacts, write_report
from .rundir import RunDirectory
from .score import ClassScore, Score
from .search.evaluation import Evaluator
from .search.trials import Trials
from .searching import meter_of, search_net
from .sitting import Sitting
from .stepping import has_steps, step_toward
from .subject import Subject, read_subject
from .target import Target
from .tuning import tune

__all__ = ["Compressed", "compress"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compressed:
    """What came of a job."""

    model: onnx.ModelProto = field(repr=False)
    output: Path
    run_dir: Path
    latency: Ratio
    """Slim over original, interleaved."""
    score: Score
    baseline_score: Score
    plan: dict[str, int]
    """Group -> units kept, of the groups that the search could change."""
    report: ReportData = field(repr=False)


def compress(
    model: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str],
    target: Target | str,
    device: str = "cpu:threads=1",
    agent: str = "ddpg",
    episodes: int = 200,
    seed: int = 0,
    output: str | os.PathLike[str] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    calibration: int = 768,
    reward: int = 500,
    preprocessing: Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    keep: Sequence[str] = (),
    min_score: float | None = None,
    label_offset: int = 0,
    steps: int = 1,
    finetune: Finetuning | None = None,
    precision: str = "fp32",
    correction: str = "sequential",
    history: bool = True,
    jobs: int = 1,
    cluster: str | None = None,
    resume: bool = False,
    force: bool = False,
    show: bool = False,
) -> Compressed:
    """Compress an ONNX model to a latency target.

    Args:
        data: images, see `ortrim.compressor.data.load_data`; labels are optional.
        target: `0.6x` of the original, or `4.5ms`.
        device: where latency is measured, or `replay:RUN_DIR` for the latencies of an earlier run.
        agent: one of `ortrim.compressor.search.agents.names()`.
        episodes: candidates that are evaluated.
        seed: of everything random; the same seed and latencies give the same plan.
        output: where the slim model goes, besides `slim.onnx` in the run directory.
        run_dir: where the run is kept; `OUTPUT.run` by default.
        calibration: unlabelled images that corrections are fitted on.
        reward: other images that candidates are scored on.
        preprocessing: how pixels are normalised; x/255 by default.
        size: height and width of the images, for models that leave them open.
        keep: patterns (shell wildcards) of layers to be left alone.
        min_score: refuse to write a model whose score is lower.
        label_offset: added to labels, for nets whose class 0 is the background.
        steps: how many times to search and recover on the way to the target, each `episodes` candidates.
        finetune: teach the winner on all images that do not score; shared out evenly over `steps`.
        precision: `fp32`, `fp16` or `int8`: of what is measured, scored and written; the target is still a share of the
            original's latency as given.
        correction: of candidates: `sequential`, layer by layer, or `independent`, each layer alone: quicker, and worth
            less (see `recovery.correct`).
        history: start from earlier searches where some help, and keep this one's trials for later ones. With a
            history the plan depends on what is in it, besides the seed.
        jobs: candidates that are scored at a time, each in a process of its own. They are proposed before any of them
            is known, so the plan depends on it.
        cluster: address of a Ray cluster that scores them, or `local` (see `search.scoring.cluster`).
        resume: go on with the run in `run_dir`.
        force: an output and a run that are there may be replaced.
        show: progress on standard error.

    Raises:
        InputError: bad input or usage, named in one line.
        JobError: nothing to prune, target not met, verification failed, device lost.
    """
    if output is None and run_dir is None:
        raise InputError("give an output (-o) or a run directory (--run-dir)")
    job = Job(
        model=Path(model),
        data=Path(data),
        target=Target.parse(target) if isinstance(target, str) else target,
        device=device,
        agent=agent,
        episodes=episodes,
        seed=seed,
        calibration=calibration,
        reward=reward,
        preprocessing=preprocessing or Preprocessing(),
        size=size,
        keep=tuple(keep),
        min_score=min_score,
        label_offset=label_offset,
        steps=steps,
        finetune=finetune,
        precision=precision,
        correction=correction,
        history=history,
        jobs=jobs,
        cluster=cluster,
    )
    job.check()
    run_path = Path(run_dir) if run_dir is not None else Path(f"{os.fspath(output)}.run")
    output_path = None if output is None else check_output(output, force, inputs=[model, data])
    subject = read_subject(job)
    settings = job.settings(sha256(job.model))
    with ExitStack() as stack:
        run = stack.enter_context(RunDirectory.start(run_path, settings, resume=resume, force=force))
        there = run.resumed and run.trials.exists()
        trials = stack.enter_context(Trials.open(run.trials) if there else Trials.create(run.trials))
        try:
            return _run(job, subject, run, trials, output_path, force=force, show=show, settings=settings)
        except OrtrimError:
            if not len(trials) and not has_steps(run):
                trials.close()
                run.discard()
            raise


def _run(
    job: Job,
    subject: Subject,
    run: RunDirectory,
    trials: Trials,
    output: Path | None,
    *,
    force: bool,
    show: bool,
    settings: dict[str, Any],
) -> Compressed:
    scorer = subject.scorer
    sitting = Sitting(console=None if show else Console(quiet=True))
    for note in filter(None, (subject.images.note, *scorer.notes)):
        sitting.note(note)
    net = Net(subject.loaded, subject.analysis, subject.loaded, subject.analysis)
    for step in range(1, job.steps):
        net = step_toward(job, subject, net, step, run, sitting, settings)
    with closing(meter_of(job, subject, job.device, trials)) as meter:
        target = job.target.as_ratio(meter.baseline())
        sitting.stages.end("baseline", scorer.baseline)
        found = search_net(job, subject, net, meter, trials, target, sitting)
        won = _win(job, subject, found.evaluator, net, found.finalists, target, run, sitting)
        output = output or run.slim
        report = describe(
            job,
            found.evaluator,
            net,
            found.space,
            won.winner,
            output=output,
            slim=won.model,
            latency=won.latency,
            target_ratio=target,
            score=won.score,
            classes=won.classes,
            search=SearchFacts(
                job.agent, len(trials), found.seconds, won.winner.trial.id, found.searched.agent_seconds
            ),
            stages=sitting.stages.facts,
            notes=sitting.notes,
            settings=settings,
        )
    content = won.model.SerializeToString()
    write_whole(run.slim, content)
    write_report(report, run.path)
    if output != run.slim:
        write_whole(output, content, overwrite=force)
    plan = net.widths(won.winner.trial.plan)
    return Compressed(won.model, output, run.path, won.latency, won.score, scorer.baseline, plan, report)


@dataclass(frozen=True)
class _Won:
    """A finalist after recovery, ready to be written."""

    winner: Winner
    model: onnx.ModelProto
    latency: Ratio
    score: Score
    classes: tuple[ClassScore, ...]


def _win(
    job: Job,
    subject: Subject,
    evaluator: Evaluator,
    net: Net,
    candidates: Iterator[Winner],
    target: float,
    run: RunDirectory,
    sitting: Sitting,
) -> _Won:
    """Recover the best finalist and measure what will be handed out; the next one where that misses the target."""
    measured: list[float] = []
    stages, calibration = sitting.stages, subject.images.calibration.feeds()
    for winner in islice(candidates, MOST_RECOVERED):
        stages.end("finalists")
        small = recover(evaluator, net, winner, calibration, stages.end, job.seed)
        if job.finetune is not None:
            small = tune(job, subject, small, run, sitting)
        small = convert(evaluator, small, stages.end)
        score, classes = evaluator.maker.scorer.detailed(small)
        if job.min_score is not None and score.value < job.min_score:
            raise TargetError(
                f"the best model that meets {job.target} scores {score.value:.4f}, below --min-score "
                f"{job.min_score:g}; nothing was written, the search is kept in the run directory"
            )
        header = provenance(
            job, sha256(job.model), winner, net.widths(winner.trial.plan), score, evaluator.meter.facts.spec
        )
        finished = graph.finish(small, header)
        latency = evaluator.meter.final(winner.trial.plan, finished)
        stages.end("final measurement", score)
        if latency.value <= target:
            return _Won(winner, finished, latency, score, classes)
        measured.append(latency.value)
        log.warning("finalist %d was measured at %.4f in the end, above the target", winner.trial.id, latency.value)
    raise TargetError(
        f"{len(measured)} slim models that met {target:.3f}x before were measured at {min(measured):.3f}x and more in "
        "the end: the device is not steady; try again with --resume"
    )
