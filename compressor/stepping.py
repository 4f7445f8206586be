"""A search of one net, and a step on the way to the target: search, recover, go on from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

from .. import graph
from ..runtime import LayerShape, layer_shapes
from .cache import layer_cache
from .files import write_whole
from .finalists import SEARCH_MARGIN, Winner, finalists, recover
from .history import Keeper, graph_hash
from .job import Job
from .net import Net
from .precision import LAYERS, Converter, Int8, Scheme, converter_for
from .recovery import Alone, Corrector, Feeds, Moments, gather, rank, samples_for
from .rundir import RunDirectory
from .search import agents
from .search.candidates import build_space
from .search.evaluation import SPENT, Evaluator, Searched, search
from .search.meter import CONVERSION, REPLAY, LiveMeter, Meter, ReplayMeter, open_meter
from .search.prediction import Prediction
from .search.space import Space
from .search.tally import Tally
from .search.trials import Trials
from .sitting import Sitting
from .subject import Subject
from .tuning import tune

__all__ = ["Found", "has_steps", "meter_of", "search_net", "step_toward"]

_ACTIVATIONS = ("uint8", "int8")
STEP_REMOVAL = "step removal"
"""Key of the trials' record for what a step removed."""


@dataclass(frozen=True)
class Found:
    """What came of one search."""

    evaluator: Evaluator
    space: Space
    searched: Searched
    seconds: float
    finalists: Iterator[Winner]


def meter_of(job: Job, subject: Subject, device: str, trials: Trials) -> LiveMeter | ReplayMeter:
    """What measures on `device` against the original, and writes down in `trials`."""
    sample = {name: array[:1] for name, array in subject.images.calibration.feeds().items()}
    return open_meter(device, subject.original, sample, trials, layer_cache(), job.seed)


def search_net(
    job: Job, subject: Subject, net: Net, meter: Meter, trials: Trials, target: float, sitting: Sitting
) -> Found:
    """Rank the net's units, offer widths, and search.

    Args:
        trials: of this search; those that are there were made before.
        target: ratio to the original's latency.
    """
    loaded, analysis, calibrating = net.model, net.analysis, subject.images.calibration.feeds()
    names = {group.name for group in subject.groups}
    moments = gather(loaded, analysis, calibrating, seed=job.seed)
    ranking = rank(loaded, analysis, moments=moments, seed=job.seed)
    sitting.stages.end("channel ranking")
    conversion = _conversion(job, subject, meter, trials)
    converter = conversion.converter
    samples = {name: (1, *array.shape[1:]) for name, array in calibrating.items()}
    prediction = Prediction(analysis, _in_precision(layer_shapes(loaded, samples), converter), meter.table)
    if net.model is not net.original or converter.precision != "fp32":
        shapes = _in_precision(layer_shapes(net.original, samples), converter)
        whole = Prediction(net.original_analysis, shapes, meter.table)
        # What the table leaves out (sums, rounding between layers) is in the measured ratio.
        prediction.reference_ms = whole.full_ms / conversion.ratio
    space = build_space(
        analysis,
        tuple(group for group in analysis.groups if group.name in names),
        prediction,
        ranking,
        target * (1 - SEARCH_MARGIN),
        model=loaded,
    )
    meter.keep_table()
    sitting.stages.end("latency table")
    agent = agents.create(job.agent, space, job.episodes, job.seed)
    tally = Tally(trials.recall(SPENT))
    correct = _correction(job, net, moments, calibrating)
    evaluator = Evaluator(loaded, analysis, ranking, correct, subject.scorer, meter, trials, target, tally, converter)
    keeper = Keeper.start(space, _facts(job, net, subject, meter, target), trials, sitting.note, keep=job.history)
    if keeper.past is not None and agent.warm(keeper.past):
        sitting.note(keeper.note())
    before = list(trials)
    agents.replay(agent, ((trial.plan, trial.outcome) for trial in before))
    progress = sitting.progress(job.episodes, len(trials))
    with closing(keeper):
        searched = search(agent, evaluator, job.episodes, target, before, progress, keeper.add)
    if searched.interrupted:
        sitting.notes.append(f"the search was interrupted after {len(trials)} of {job.episodes} candidates")
    seconds = sitting.stages.end("search")
    return Found(evaluator, space, searched, seconds, finalists(evaluator, list(trials), target))


def _facts(job: Job, net: Net, subject: Subject, meter: Meter, target: float) -> dict[str, Any]:
    """What the history keeps of a search, besides what it could choose from."""
    return {
        "model": job.model.name,
        "graph": graph_hash(net.model),
        "device": meter.facts.spec,
        "cpu": meter.facts.cpu,
        "onnxruntime": meter.facts.onnxruntime,
        "precision": job.precision,
        "target": target,
        "agent": job.agent,
        "seed": job.seed,
        "kind": f"{subject.scorer.baseline.kind}, {subject.scorer.baseline.detail}, {job.correction}",
    }


def _correction(job: Job, net: Net, moments: Moments, images: Feeds) -> Corrector | Alone:
    """What corrects candidates."""
    if job.correction == "independent":
        return Alone(net.model, net.analysis, moments)
    samples = samples_for(graph.macs(net.model))
    return Corrector(net.model, net.analysis, moments, images, samples=samples, seed=job.seed)


@dataclass(frozen=True)
class _Conversion:
    """The converter of a job, and the latency of the converted original as a share of that of the original."""

    converter: Converter
    ratio: float


def _conversion(job: Job, subject: Subject, meter: Meter, trials: Trials) -> _Conversion:
    """Measured once and kept with the trials; of the ways to write int8 activations the fastest."""
    converter = converter_for(job.precision, subject.loaded, subject.images.calibration.feeds())
    if converter.precision == "fp32":
        return _Conversion(converter, 1.0)
    known = trials.recall(CONVERSION)
    if known is None:
        ways = [replace(converter, scheme=Scheme(kind)) for kind in _ACTIVATIONS] if isinstance(converter, Int8) else []
        measured = [(meter.quick({}, way.quick(subject.loaded)).ratio, way) for way in ways or [converter]]
        ratio, converter = min(measured, key=lambda item: item[0])
        known = {"ratio": ratio, "activations": converter.scheme.activations if isinstance(converter, Int8) else None}
        trials.record(CONVERSION, known)
    elif isinstance(converter, Int8):
        converter = replace(converter, scheme=Scheme(known["activations"]))
    return _Conversion(converter, known["ratio"])


def _in_precision(shapes: Mapping[str, LayerShape], converter: Converter) -> dict[str, LayerShape]:
    """The layers that the precision changes, as the device then runs them."""
    return {
        node: replace(shape, dtype=converter.layer_dtype) if shape.op in LAYERS and shape.dtype == "float32" else shape
        for node, shape in shapes.items()
    }


def has_steps(run: RunDirectory) -> bool:
    """Whether a step has begun: there is something to go on from."""
    return (run.path / _folder(1)).is_dir()


def _folder(step: int) -> str:
    return f"step{step}"


def step_toward(
    job: Job, subject: Subject, net: Net, step: int, run: RunDirectory, sitting: Sitting, settings: dict[str, Any]
) -> Net:
    """The net after a step on the way to the target, searched, recovered and kept in a run directory of its own.

    Steps take the same share of what is left of the latency each, beginning with the original in the job's precision.

    Raises:
        KeyboardInterrupt: the search was interrupted; there is no net at the target to go on with.
        TargetError: no candidate meets this step's share of the target.
    """
    sitting.stages.prefix = f"step {step} of {job.steps}: "
    replays = job.device.startswith(REPLAY)
    device = f"{job.device}/{_folder(step)}" if replays else job.device
    with ExitStack() as stack:
        folder = run.path / _folder(step)
        own = stack.enter_context(
            RunDirectory.start(folder, {**settings, "step": step}, resume=run.resumed and folder.is_dir(), force=True)
        )
        there = own.resumed and own.trials.exists()
        trials = stack.enter_context(Trials.open(own.trials) if there else Trials.create(own.trials))
        meter = stack.enter_context(closing(meter_of(job, subject, device, trials)))
        start = _conversion(job, subject, meter, trials).ratio
        target = start * (job.target.as_ratio(meter.baseline()) / start) ** (step / job.steps)
        removal = trials.recall(STEP_REMOVAL)
        if removal is not None and own.slim.exists():
            model = graph.load(own.slim)
        else:
            found = search_net(job, subject, net, meter, trials, target, sitting)
            if found.searched.interrupted:
                raise KeyboardInterrupt
            winner = next(found.finalists)
            calibrating = subject.images.calibration.feeds()
            model = recover(found.evaluator, net, winner, calibrating, sitting.stages.end, job.seed)
            if job.finetune is not None:
                model = tune(job, subject, model, own, sitting)
            removal = found.evaluator.ranking.removal(winner.trial.plan)
            write_whole(own.slim, model.SerializeToString())
            trials.record(STEP_REMOVAL, removal)
    sitting.stages.prefix = "" if step + 1 < job.steps else f"step {job.steps} of {job.steps}: "
    analysis = graph.analyze(model)
    gone = net.in_original({name: tuple(units) for name, units in removal.items()}) if net.composable else {}
    return Net(model, analysis, subject.loaded, subject.analysis, gone)
