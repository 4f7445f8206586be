"""What the report and the header of the slim file say of a run."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import onnx

from .. import graph
from ..runtime import Ratio
from .files import sha256
from .finalists import Winner
from .job import Job
from .net import Net
from .report import (
    ClassFacts,
    DeviceFacts,
    DeviceLatencyFacts,
    FrozenFacts,
    GroupFacts,
    LatencyFacts,
    ModelFacts,
    ReportData,
    ScoreFacts,
    SearchFacts,
    SpentFacts,
    StageFacts,
    StaircaseFacts,
    TargetFacts,
    TrialFacts,
)
from .score import ClassScore, Score, Scorer
from .search.evaluation import Evaluator
from .search.space import Space

__all__ = ["as_measured", "describe", "provenance", "version"]

_LIBRARIES = ("onnxruntime", "onnx", "torch", "numpy")


def version() -> str:
    """Release of ortrim that is installed."""
    return importlib.metadata.version("ortrim")


def provenance(
    job: Job, source_sha256: str, winner: Winner, widths: dict[str, int], score: Score, device: str
) -> dict[str, str]:
    """Keys for `metadata_props` of the slim file: where it comes from and what was measured."""
    return {
        "ortrim.version": version(),
        "ortrim.source_sha256": source_sha256,
        "ortrim.target": "least" if job.target is None else str(job.target),
        "ortrim.device": device,
        "ortrim.latency_ratio": f"{winner.latency.value:.4f}",
        "ortrim.score": f"{score.value:.4f} ({score.kind}, {score.detail})",
        "ortrim.agent": f"{job.agent}, seed {job.seed}",
        "ortrim.plan": json.dumps(widths),
    }


def as_measured(latency: Ratio, devices: Sequence[tuple[DeviceFacts, Ratio]]) -> Ratio:
    """A ratio of the search as it was measured on the device that it comes from.

    With a target in milliseconds, a search on several devices compares ratios in terms of the first one's target.

    Args:
        devices: what was measured on each of several (`Meter.by_device`).
    """
    found = (one for _, one in devices if (one.baseline, one.candidate) == (latency.baseline, latency.candidate))
    return next(found, latency)


def _model_facts(path: Path, model: onnx.ModelProto, content: bytes) -> ModelFacts:
    loaded = graph.ensure_loaded(model)
    return ModelFacts(str(path), sha256(content), graph.parameters(loaded), graph.macs(loaded), len(content))


def describe(
    job: Job,
    evaluator: Evaluator,
    judge: Scorer,
    given: onnx.ModelProto,
    net: Net,
    space: Space,
    winner: Winner,
    *,
    output: Path,
    slim: onnx.ModelProto,
    latency: Ratio,
    target_ratio: float,
    score: Score,
    classes: Sequence[ClassScore],
    search: SearchFacts,
    stages: Sequence[StageFacts],
    notes: Sequence[str],
    settings: dict[str, object],
    devices: Sequence[tuple[DeviceFacts, Ratio]] = (),
) -> ReportData:
    """Everything that the report shows of a run that has ended.

    Args:
        given: the original, loaded.
    """
    trials = list(evaluator.trials)
    measured = as_measured(latency, devices)
    # All ratios of a report are in terms of the device whose latency it gives.
    scale = measured.value / latency.value
    widths = net.widths(winner.trial.plan)
    return ReportData(
        ortrim=version(),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        model=_model_facts(job.model, given, job.model.read_bytes()),
        slim=_model_facts(output, slim, slim.SerializeToString()),
        device=evaluator.meter.facts,
        target=TargetFacts(scale * target_ratio, None if job.target is None else job.target.milliseconds),
        latency=LatencyFacts.from_ratio(measured),
        score=ScoreFacts(
            score.kind,
            judge.baseline.value,
            score.value,
            len(judge.dataset),
            score.detail,
            judge.dataset is not evaluator.maker.scorer.dataset,
        ),
        search=search,
        groups=tuple(
            GroupFacts(group.name, group.size, widths.get(group.name, group.size))
            for group in net.original_analysis.groups
        ),
        trials=tuple(TrialFacts(trial.id, trial.score, scale * trial.ratio) for trial in trials),
        stages=tuple(stages),
        spent=tuple(SpentFacts(name, seconds) for name, seconds in evaluator.tally.seconds.items()),
        classes=tuple(ClassFacts(item.name, item.samples, item.baseline, item.value) for item in classes),
        frozen=tuple(FrozenFacts(item.layer, item.reason) for item in net.original_analysis.frozen),
        staircases=tuple(
            StaircaseFacts(choice.group, tuple(choice.milliseconds), tuple(choice.milliseconds.values()), choice.widths)
            for choice in space.choices
        ),
        devices=tuple(
            DeviceLatencyFacts(
                facts.spec,
                facts.provider,
                ratio.baseline.median_ms,
                ratio.candidate.median_ms,
                ratio.value,
                ratio.low,
                ratio.high,
            )
            for facts, ratio in devices
        ),
        settings={key: _text(value) for key, value in settings.items() if value not in (None, [], "")},
        versions={
            "ortrim": version(),
            "python": platform.python_version(),
            **{name: found for name in _LIBRARIES if (found := _release(name))},
        },
        notes=tuple(notes),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _release(name: str) -> str:
    """onnxruntime comes as one of several distributions, so the module is asked where metadata has no such name."""
    if name == "onnxruntime":
        import onnxruntime

        return onnxruntime.__version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
