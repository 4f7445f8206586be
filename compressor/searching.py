"""One search of one net: units ranked, widths offered, candidates tried, and the best of them lined up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .. import graph
from ..runtime import Device, LayerShape, layer_shapes, usable_cores
from .cache import damage_cache, layer_cache
from .damage import MOST_POINTS, SAMPLES, Damage, Kept, damage_of_groups, key_of
from .finalists import SEARCH_MARGIN, Finalists
from .history import Keeper, feeds_hash, graph_hash, weights_hash
from .job import Job
from .net import Net
from .precision import LAYERS, Converter, Int8, Scheme, converter_for
from .recovery import (
    Alone,
    Corrector,
    Feeds,
    Moments,
    OutputDeviation,
    Ranking,
    gather,
    rank,
    samples_for,
)
from .search import agents
from .search.agents.front import Front
from .search.candidates import build_space
from .search.evaluation import SPENT, Evaluator, Searched, search
from .search.meter import CONVERSION, DAMAGE, Meter, open_meter
from .search.scoring import Maker, Workers, open_workers
from .search.several import Named, SeveralMeters
from .search.space import Choice, Space
from .search.tally import Tally
from .search.trials import Trials
from .sitting import Sitting
from .subject import Subject

__all__ = ["Found", "conversion_of", "meter_of", "search_net"]

_ACTIVATIONS = ("uint8", "int8")
SHARED_OUT = 4
"""Errors that each worker is given at a time: few are lost when a run is interrupted, and few wait for the last."""
COMPARED = 16
"""Images by which the history tells one set of images from another."""


@dataclass(frozen=True)
class Found:
    """What came of one search."""

    evaluator: Evaluator
    space: Space
    searched: Searched
    seconds: float

    def finalists(self, target: float) -> Finalists:
        """Candidates that meet a target."""
        trials = [trial for trial in self.evaluator.trials if not trial.failed]
        return Finalists(self.evaluator, trials, target, exhausted=self.searched.exhausted)


def meter_of(job: Job, subject: Subject, devices: Sequence[str], trials: Trials) -> Meter:
    """What measures on `devices` against the original, and writes down in `trials`."""
    sample = {name: array[:1] for name, array in subject.images.calibration.feeds().items()}
    if len(devices) == 1:
        return open_meter(devices[0], subject.original, sample, trials, layer_cache(), job.seed)
    with ExitStack() as on_failure:
        meters: list[Meter] = []
        for number, device in enumerate(devices):
            # The first keeps its figures where those of a single device are.
            record = trials if number == 0 else Named(trials, f"device {number + 1}")
            meters.append(open_meter(device, subject.original, sample, record, layer_cache(), job.seed))
            on_failure.callback(meters[-1].close)
        targets = [job.targets(meter.baseline())[-1] for meter in meters]
        several = SeveralMeters(meters, targets, trials)
        on_failure.pop_all()
    return several


def search_net(
    job: Job, subject: Subject, net: Net, meter: Meter, trials: Trials, targets: Sequence[float], sitting: Sitting
) -> Found:
    """Rank the net's units, offer widths, and search.

    Args:
        trials: of this search; those that are there were made before.
        targets: ratios to the original's latency, slowest first.
    """
    target = targets[-1]
    loaded, analysis, calibrating = net.model, net.analysis, subject.images.calibration.feeds()
    names = {group.name for group in subject.groups}
    moments = gather(loaded, analysis, calibrating, seed=job.seed)
    ranking = rank(loaded, analysis, moments=moments, seed=job.seed)
    sitting.stages.end("channel ranking")
    conversion = conversion_of(job, subject, meter, trials)
    converter = conversion.converter
    samples = {name: (1, *array.shape[1:]) for name, array in calibrating.items()}
    prediction = meter.predict(analysis, _in_precision(layer_shapes(loaded, samples), converter))
    if net.model is not net.original or conversion.changes:
        shapes = _in_precision(layer_shapes(net.original, samples), converter)
        prediction.relate(meter.predict(net.original_analysis, shapes), conversion.ratios)
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

    def maker(threads: int) -> Maker:
        correct = _correction(job, net, moments, calibrating, threads)
        scorer = replace(subject.scorer, device=Device("cpu", threads=threads))
        hinted = job.correction == "sequential"
        deviation = OutputDeviation(loaded, _compared(subject), threads=threads) if hinted else None
        return Maker(ranking, correct, scorer, converter, deviation)

    with ExitStack() as opened:
        workers = opened.enter_context(closing(open_workers(maker, job.jobs, job.cluster, usable_cores())))
        if job.correction == "sequential":
            space = replace(space, damage=_damage(job, subject, net, ranking, space, workers, trials, sitting))
            sitting.stages.end("damage of each group")
        agent = _agent(job, space, targets)
        tally = Tally(trials.recall(SPENT))
        evaluator = Evaluator(loaded, analysis, workers, meter, trials, target if len(targets) == 1 else None, tally)
        facts = _facts(job, net, subject, meter, targets[0])
        keeper = opened.enter_context(
            closing(Keeper.start(space, facts, trials, sitting.note, keep=job.history, warm=job.warm_start))
        )
        if keeper.past is not None and agent.warm(keeper.past):
            sitting.note(keeper.note())
        before = list(trials)
        replayed = agents.replay(agent, [(trial.plan, trial.outcome) for trial in before], job.jobs)
        if replayed.foreign:
            sitting.note(
                f"{replayed.foreign} of {len(before)} earlier candidates are not what --agent {job.agent} asks for "
                "now: it learns from them, but does not go on as the run would have without a break"
            )
        searched = search(
            agent,
            evaluator,
            job.episodes,
            target,
            before,
            sitting.progress(job.episodes, len(trials)),
            pending=replayed.pending,
            on_trial=keeper.add,
        )
    if searched.interrupted:
        sitting.notes.append(f"the search was interrupted after {len(trials)} of {job.episodes} candidates")
    if failed := sum(trial.failed for trial in trials):
        sitting.notes.append(f"{failed} of {len(trials)} candidates could not be scored or measured; log.txt says why")
    # Of the sittings before, what their candidates took.
    seconds = sitting.stages.end("search") + sum(trial.seconds for trial in before)
    return Found(evaluator, space, searched, seconds)


def _agent(job: Job, space: Space, targets: Sequence[float]) -> agents.Agent:
    """The job's agent; one for each target of a front."""
    if len(targets) == 1:
        return agents.create(job.agent, space, job.episodes, job.seed)
    return Front(job.agent, space, [target * (1 - SEARCH_MARGIN) for target in targets], job.episodes, job.seed)


def _damage(
    job: Job,
    subject: Subject,
    net: Net,
    ranking: Ranking,
    space: Space,
    workers: Workers,
    trials: Trials,
    sitting: Sitting,
) -> Damage:
    """What each group is worth: at most half as many corrections as there are candidates.

    Where that is not one for each group, the groups are asked for that save most.
    """
    known = trials.recall(DAMAGE)
    if known is not None:
        return {group: {int(width): value for width, value in of.items()} for group, of in known.items()}
    widths = {choice.group: choice.widths for choice in space.choices}
    most = max(1, job.episodes // 2)
    points = max(1, min(MOST_POINTS, most // len(widths)))
    by_saving = sorted(space.choices, key=lambda choice: -_saving(choice))
    asked = {choice.group for choice in by_saving[:most]}
    which = "each" if len(asked) == len(widths) else f"{len(asked)}"
    sitting.say(
        f"measuring damage: {which} of {len(widths)} groups alone, at {points} width{'s' if points > 1 else ''}"
    )
    feeds = subject.images.calibration.feeds(), _compared(subject)
    damage = damage_of_groups(
        ranking,
        widths,
        lambda places: workers.errors([dict([place]) for place in places]),
        Kept(damage_cache(), key_of(net.model, ranking, feeds, job.seed)),
        points=points,
        asked=asked,
        at_a_time=1 if workers.jobs == 1 else SHARED_OUT * workers.jobs,
    )
    trials.record(DAMAGE, damage)
    return damage


def _compared(subject: Subject) -> Feeds:
    """Of the images that score, those by whose outputs groups are compared."""
    reward = subject.images.reward
    return reward.subset(np.arange(min(SAMPLES, len(reward)))).feeds()


def _saving(choice: Choice) -> float:
    """Milliseconds between a group's widest and its narrowest width."""
    costs = choice.milliseconds
    return costs[max(costs)] - costs[min(costs)] if costs else 0.0


def _facts(job: Job, net: Net, subject: Subject, meter: Meter, target: float) -> dict[str, Any]:
    """What the history keeps of a search, besides what it could choose from.

    Args:
        target: the slowest of several: whoever reads the history takes what is above it for a miss.
    """
    reward = subject.images.reward
    sample = np.arange(min(COMPARED, len(reward)))
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
        "weights": weights_hash(net.model),
        "images": f"{len(reward)} {feeds_hash(reward.subset(sample).feeds())}",
        "kind": f"{subject.scorer.baseline.kind}, {subject.scorer.baseline.detail}, {job.correction}",
    }


def _correction(job: Job, net: Net, moments: Moments, images: Feeds, threads: int) -> Corrector | Alone:
    """What corrects candidates."""
    if job.correction == "independent":
        return Alone(net.model, net.analysis, moments)
    samples = samples_for(graph.macs(net.model))
    return Corrector(net.model, net.analysis, moments, images, samples=samples, threads=threads, seed=job.seed)


@dataclass(frozen=True)
class Conversion:
    """The converter of a job, and the latency of the converted original as a share of that of the original."""

    converter: Converter
    ratio: float
    """Of several devices the worst one's, in terms of the first one's target."""
    ratios: tuple[float, ...]
    """As measured on each device; one for all where that is not known or makes no difference."""
    changes: bool = True
    """Whether there was anything to convert."""


def conversion_of(job: Job, subject: Subject, meter: Meter, trials: Trials) -> Conversion:
    """Measured once and kept with the trials; of the ways to write int8 activations the fastest.

    The net in cheaper operators counts as converted, too.
    """
    converter = converter_for(job.precision, subject.loaded, subject.images.calibration.feeds())
    if converter.precision == "fp32" and not subject.in_cheaper_operators:
        return Conversion(converter, 1.0, (1.0,), changes=False)
    known = trials.recall(CONVERSION)
    if known is None:
        ways = [replace(converter, scheme=Scheme(kind)) for kind in _ACTIVATIONS] if isinstance(converter, Int8) else []
        measured = [(meter.quick({}, way.quick(subject.loaded)), way) for way in ways or [converter]]
        best, converter = min(measured, key=lambda item: item[0].ratio)
        scheme = asdict(converter.scheme) if isinstance(converter, Int8) else None
        known = {"ratio": best.ratio, "ratios": best.ratios, "scheme": scheme}
        trials.record(CONVERSION, known)
    elif isinstance(converter, Int8):
        # Runs of earlier versions noted the activations alone, and used all bits.
        scheme = known.get("scheme") or {"activations": known["activations"], "bits": 8}
        converter = replace(converter, scheme=Scheme(**scheme))
    # Runs of earlier versions noted the worst device's ratio alone.
    return Conversion(converter, known["ratio"], tuple(known.get("ratios") or [known["ratio"]]))


def _in_precision(shapes: Mapping[str, LayerShape], converter: Converter) -> dict[str, LayerShape]:
    """The layers that the precision changes, as the device then runs them."""
    return {
        node: replace(shape, dtype=converter.layer_dtype) if shape.op in LAYERS and shape.dtype == "float32" else shape
        for node, shape in shapes.items()
    }
