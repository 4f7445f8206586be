"""The job on one page: a model, a latency target and some images go in, a slim model and a report come out."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console

from ..errors import InputError, OrtrimError
from ..runtime import Ratio
from .data import Preprocessing, data_identity
from .distill import Settings as Finetuning
from .equivalent import in_cheaper_operators
from .facts import as_measured, describe
from .files import check_output, sha256, write_whole
from .front import front_facts, hand_out_front, places, places_of
from .job import PATHS, Job
from .net import Net
from .report import ReportData, SearchFacts, write_report
from .rundir import RunDirectory
from .score import Score
from .search.trials import Trials
from .searching import meter_of, search_net
from .sitting import Sitting
from .stepping import has_steps, step_toward
from .subject import Subject, read_subject
from .target import Target

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
    front: tuple[Compressed, ...] = field(default=(), repr=False)
    """The slower nets of a front, slowest first."""


def compress(
    model: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str],
    target: Target | str | None = None,
    device: str | Sequence[str] = "cpu:threads=1",
    agent: str = "ortrim",
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
    warm_start: bool = True,
    front: int = 1,
    jobs: int = 1,
    cluster: str | None = None,
    resume: bool = False,
    force: bool = False,
    show: bool = False,
) -> Compressed:
    """Compress an ONNX model to a latency target.

    Args:
        data: images, see `ortrim.compressor.data.load_data`; labels are optional.
        target: `0.6x` of the original, or `4.5ms`. Left out, the least latency that keeps `min_score`.
        device: where latency is measured, or `replay:RUN_DIR` for the latencies of an earlier run. Of several devices
            the target is met on each; the latency of the result is then the worst one's.
        agent: one of `ortrim.compressor.search.agents.names()`, or `package.module:factory`.
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
        history: keep this search's trials for later ones, and start from theirs (see `warm_start`).
        warm_start: start from earlier searches where some help. The plan then depends on what is in the history,
            besides the seed.
        front: how many nets to make in one search, their latencies evenly spread (in their logarithm) down to the
            target; the slower ones are named after theirs (`slim_0.84x.onnx`).
        jobs: candidates that are scored at a time, each in a process of its own. They are proposed before any of them
            is known, so the plan depends on it. More than one in a script needs `if __name__ == "__main__":` around
            this call, since each process imports the script.
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
        devices=(device,) if isinstance(device, str) else tuple(device),
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
        warm_start=warm_start,
        front=front,
        jobs=jobs,
        cluster=cluster,
    )
    job.check()
    run_path = Path(run_dir) if run_dir is not None else Path(f"{os.fspath(output)}.run")
    output_path = None if output is None else check_output(output, force, inputs=[model, data])
    if output_path is not None and job.front > 1 and job.target is not None and job.target.ratio is not None:
        for place in places(output_path, job.targets(1.0)):
            check_output(place, force, inputs=[model, data])
    subject = read_subject(job)
    settings = job.settings(sha256(job.model), data_identity(job.data))
    with ExitStack() as stack:
        run = stack.enter_context(RunDirectory.start(run_path, settings, resume=resume, force=force, may_change=PATHS))
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
    sitting = Sitting(console=None if show else Console(quiet=True))
    for note in filter(None, (subject.images.note, *subject.scorer.notes)):
        sitting.note(note)
    subject = in_cheaper_operators(job, subject, trials, sitting, begun=bool(len(trials)) or has_steps(run))
    net = Net(subject.loaded, subject.analysis, subject.loaded, subject.analysis)
    for step in range(1, job.steps):
        net = step_toward(job, subject, net, step, run, sitting, settings)
    with closing(meter_of(job, subject, job.devices, trials)) as meter:
        targets = job.targets(meter.baseline())
        if output is not None and job.target is not None:
            # Those of a target in milliseconds have their names from here on.
            for place in places(output, targets):
                check_output(place, force, inputs=[job.model, job.data])
        sitting.stages.end("baseline", subject.judge.baseline)
        found = search_net(job, subject, net, meter, trials, targets, sitting)
        nets = hand_out_front(job, subject, found, net, targets, run, sitting)
        reports = [
            describe(
                job,
                found.evaluator,
                subject.judge,
                subject.given,
                net,
                found.space,
                won.winner,
                output=place,
                slim=won.model,
                latency=won.latency,
                target_ratio=won.target,
                score=won.score,
                classes=won.classes,
                search=SearchFacts(
                    job.agent, len(trials), found.seconds, won.winner.trial.id, found.searched.agent_seconds
                ),
                stages=sitting.stages.facts,
                notes=sitting.notes,
                settings=settings,
                devices=meter.by_device(won.winner.trial.plan),
            )
            for won, place in zip(nets, places_of(nets, output or run.slim, targets), strict=True)
        ]
    made = [
        Compressed(
            won.model,
            Path(report.slim.path),
            run.path,
            as_measured(won.latency, meter.by_device(won.winner.trial.plan)),
            won.score,
            subject.judge.baseline,
            net.widths(won.winner.trial.plan),
            report,
        )
        for won, report in zip(nets, reports, strict=True)
    ]
    return _written(made, run, force)


def _written(made: Sequence[Compressed], run: RunDirectory, force: bool) -> Compressed:
    """Write the nets and their reports; the fastest of them is the run's."""
    front = front_facts([net.report for net in made])
    for number, net in enumerate(made[:-1], start=1):
        folder = run.part(f"front{number}")
        write_whole(folder / run.slim.name, net.model.SerializeToString())
        write_report(net.report, folder)
    fastest = replace(made[-1], report=replace(made[-1].report, front=front), front=tuple(made[:-1]))
    write_whole(run.slim, fastest.model.SerializeToString())
    write_report(fastest.report, run.path)
    for net in made:
        if net.output != run.slim:
            write_whole(net.output, net.model.SerializeToString(), overwrite=force)
    return fastest
