"""The job on one page: a model, a latency target and some images go in, a slim model and a report come out."""

from __future__ import annotations

import logging
import os
import time
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
from ..runtime import Device, Ratio, layer_shapes
from .data import InputSpec, Preprocessing, Split, load_data, split
from .facts import describe, provenance
from .files import check_output, sha256, write_whole
from .finalists import MOST_RECOVERED, SEARCH_MARGIN, Winner, finalists, recover
from .job import Job
from .progress import SearchProgress
from .recovery import Feeds, Refitter, gather, rank
from .report import ReportData, SearchFacts, StageFacts, write_report
from .rundir import RunDirectory
from .score import ClassScore, Score, Scorer
from .search import agents
from .search.candidates import build_space, prunable_groups
from .search.evaluation import SPENT, Evaluator, search
from .search.meter import open_meter
from .search.prediction import Prediction
from .search.tally import Tally
from .search.trials import Trials
from .target import Target

__all__ = ["Compressed", "compress", "layer_cache"]

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


@dataclass
class _Stages:
    """Seconds and scores of the steps, as the report shows them."""

    started: float = field(default_factory=time.perf_counter)
    facts: list[StageFacts] = field(default_factory=list)

    def end(self, name: str, score: Score | None = None) -> float:
        """Close a step; its seconds."""
        now = time.perf_counter()
        self.facts.append(StageFacts(name, now - self.started, None if score is None else score.value))
        log.info("%s: %.1f s%s", name, now - self.started, "" if score is None else f", score {score.value:.4f}")
        self.started = now
        return self.facts[-1].seconds


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
    )
    job.check()
    run_path = Path(run_dir) if run_dir is not None else Path(f"{os.fspath(output)}.run")
    output_path = None if output is None else check_output(output, force, inputs=[model, data])
    subject = _read(job)
    settings = job.settings(sha256(job.model))
    with ExitStack() as stack:
        run = stack.enter_context(RunDirectory.start(run_path, settings, resume=resume, force=force))
        there = run.resumed and run.trials.exists()
        trials = stack.enter_context(Trials.open(run.trials) if there else Trials.create(run.trials))
        try:
            return _run(job, subject, run, trials, output_path, force=force, show=show, settings=settings)
        except OrtrimError:
            if not len(trials):
                trials.close()
                run.discard()
            raise


@dataclass(frozen=True)
class _Subject:
    """What is known before anything is written: the model, its groups, the images, the original's score."""

    original: onnx.ModelProto
    """As given: latency is compared with this."""
    loaded: onnx.ModelProto
    analysis: graph.ChannelAnalysis
    groups: tuple[graph.ChannelGroup, ...]
    images: Split
    scorer: Scorer


def _read(job: Job) -> _Subject:
    original = graph.read(job.model)
    loaded = graph.load(original)
    analysis = graph.analyze(loaded)
    groups = prunable_groups(analysis, job.keep)
    spec = InputSpec.from_model(loaded, job.size)
    dataset = load_data(job.data, spec, job.preprocessing, job.calibration + job.reward, job.seed)
    images = split(dataset, job.calibration, job.reward, job.seed)
    cores = Device("cpu", threads=os.cpu_count())
    scorer = Scorer.build(loaded, images.reward, cores, label_offset=job.label_offset)
    return _Subject(original, loaded, analysis, groups, images, scorer)


def _run(
    job: Job,
    subject: _Subject,
    run: RunDirectory,
    trials: Trials,
    output: Path | None,
    *,
    force: bool,
    show: bool,
    settings: dict[str, Any],
) -> Compressed:
    loaded, analysis, scorer = subject.loaded, subject.analysis, subject.scorer
    stages = _Stages()
    notes = [note for note in (subject.images.note, *scorer.notes) if note]
    progress = SearchProgress(job.episodes, len(trials), console=None if show else Console(quiet=True))
    for note in notes:
        progress.note(note)

    calibrating = subject.images.calibration.feeds()
    sample = {name: array[:1] for name, array in calibrating.items()}
    with closing(open_meter(job.device, subject.original, sample, trials, layer_cache(), job.seed)) as meter:
        target = job.target.as_ratio(meter.baseline())
        stages.end("baseline", scorer.baseline)
        moments = gather(loaded, analysis, calibrating, seed=job.seed)
        ranking = rank(loaded, analysis, moments=moments, seed=job.seed)
        stages.end("channel ranking")
        shapes = layer_shapes(loaded, {name: array.shape for name, array in sample.items()})
        space = build_space(
            analysis,
            subject.groups,
            Prediction(analysis, shapes, meter.table),
            ranking,
            target * (1 - SEARCH_MARGIN),
            model=loaded,
        )
        meter.keep_table()
        stages.end("latency table")

        agent = agents.create(job.agent, space, job.episodes, job.seed)
        refitter = Refitter(loaded, analysis, moments)
        tally = Tally(trials.recall(SPENT))
        evaluator = Evaluator(loaded, analysis, ranking, refitter, scorer, meter, trials, target, tally)
        before = list(trials)
        agents.replay(agent, ((trial.plan, trial.outcome) for trial in before))
        searched = search(agent, evaluator, job.episodes, target, before, progress)
        if searched.interrupted:
            notes.append(f"the search was interrupted after {len(trials)} of {job.episodes} candidates")
        search_seconds = stages.end("search")
        won = _win(job, evaluator, finalists(evaluator, list(trials), target), target, calibrating, stages)
        output = output or run.slim
        report = describe(
            job,
            evaluator,
            space,
            won.winner,
            output=output,
            slim=won.model,
            latency=won.latency,
            target_ratio=target,
            score=won.score,
            classes=won.classes,
            search=SearchFacts(job.agent, len(trials), search_seconds, won.winner.trial.id, searched.agent_seconds),
            stages=stages.facts,
            notes=notes,
            settings=settings,
        )
    content = won.model.SerializeToString()
    write_whole(run.slim, content)
    write_report(report, run.path)
    if output != run.slim:
        write_whole(output, content, overwrite=force)
    plan = dict(won.winner.trial.plan)
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
    job: Job, evaluator: Evaluator, candidates: Iterator[Winner], target: float, calibration: Feeds, stages: _Stages
) -> _Won:
    """Recover the best finalist and measure what will be handed out; the next one where that misses the target."""
    measured: list[float] = []
    for winner in islice(candidates, MOST_RECOVERED):
        stages.end("finalists")
        small = recover(evaluator, winner, calibration, stages.end, job.seed)
        score, classes = evaluator.scorer.detailed(small)
        if job.min_score is not None and score.value < job.min_score:
            raise TargetError(
                f"the best model that meets {job.target} scores {score.value:.4f}, below --min-score "
                f"{job.min_score:g}; nothing was written, the search is kept in the run directory"
            )
        header = provenance(job, sha256(job.model), winner, score, evaluator.meter.facts.spec)
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


def layer_cache() -> Path | None:
    """Where figures of layers are kept between runs: the user's cache folder (`XDG_CACHE_HOME`), or None."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ortrim"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("latencies of layers are not kept for later runs: %s cannot be made (%s)", folder, error.strerror)
        return None
    return folder / "layers.sqlite"
