"""What the report of a training says, and the header of its file."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx
import torch

from ... import graph
from ...runtime import Ratio
from ..facts import version
from ..files import sha256
from ..report import (
    FrozenFacts,
    GroupFacts,
    LatencyFacts,
    ModelFacts,
    ReportData,
    ScoreFacts,
    SearchFacts,
    StageFacts,
    StaircaseFacts,
    TargetFacts,
    TrialFacts,
    to_html,
    to_json,
)
from ..report.content import DeviceFacts
from ..rundir import RunDirectory
from ..score import Score
from ..target import Target
from .offer import Offer
from .traced import Traced
from .trainer import Chosen, Epoch

__all__ = ["Finished", "header", "write_plain", "write_pruned"]


@dataclass(frozen=True)
class Finished:
    """A net that has been trained."""

    model: onnx.ModelProto = field(repr=False)
    """Fit to be written."""
    masked: Score
    """Of the whole net with the channels off that go, run by onnxruntime; of the net itself where none go."""
    score: Score
    """Of the model, on the same held-out images."""
    images: int
    """Held out."""
    training_images: int
    latency: Ratio | None
    """Of the model over the whole net; None where nothing was pruned."""
    seconds: float
    """Of all epochs."""


def header(spec: str, finished_score: Score, seed: int, epochs: int, extra: dict[str, str]) -> dict[str, str]:
    """Keys for `metadata_props`: where the file comes from."""
    return {
        "ortrim.version": version(),
        "ortrim.source": spec,
        "ortrim.trained": f"{epochs} epochs, seed {seed}",
        "ortrim.score": f"{finished_score.value:.4f} ({finished_score.kind}, {finished_score.detail})",
        **extra,
    }


def write_pruned(
    run: RunDirectory,
    output: Path,
    traced: Traced,
    offer: Offer,
    chosen: Chosen,
    finished: Finished,
    *,
    target: Target,
    device: DeviceFacts,
    agent: str,
    agent_seconds: float,
    trials: Sequence[tuple[int, dict[str, int], float, float]],
    history: Sequence[Epoch],
    stages: Sequence[StageFacts],
    settings: dict[str, Any],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Write `report.json` and `report.html`; what the former holds.

    Args:
        trials: number, plan, reward and predicted ratio of every plan that was tried.
    """
    assert finished.latency is not None
    best = next((number for number, plan, _, _ in reversed(trials) if plan == chosen.plan), None)
    data = ReportData(
        ortrim=version(),
        created=_now(),
        model=_model(traced.spec, traced.model),
        slim=_model(str(output), finished.model),
        device=device,
        target=TargetFacts(offer.target, target.milliseconds),
        latency=LatencyFacts.from_ratio(finished.latency),
        score=ScoreFacts("accuracy", chosen.whole, finished.score.value, finished.images, finished.score.detail),
        search=SearchFacts(agent, len(trials), agent_seconds, best, agent_seconds),
        groups=tuple(
            GroupFacts(group.name, group.size, chosen.plan.get(group.name, group.size))
            for group in traced.analysis.groups
        ),
        trials=tuple(TrialFacts(number, score, ratio) for number, _, score, ratio in trials),
        stages=tuple(stages),
        frozen=tuple(FrozenFacts(item.layer, item.reason) for item in traced.analysis.frozen),
        staircases=tuple(
            StaircaseFacts(choice.group, tuple(choice.milliseconds), tuple(choice.milliseconds.values()), choice.widths)
            for choice in offer.space.choices
        ),
        settings={key: _text(value) for key, value in settings.items() if value not in (None, "")},
        versions=_versions(),
        notes=tuple(notes),
    )
    more = {
        "kind": "joint training",
        "whole": {"accuracy": chosen.whole, "epoch": chosen.epoch},
        "masked": {"accuracy": finished.masked.value},
        "chosen": {"reward": chosen.reward, "epoch": chosen.epoch, "ratio": chosen.latency},
        **_training(finished, history),
    }
    record = {**json.loads(to_json(data)), "joint": more}
    run.write("report.json", _as_json(record))
    run.write("report.html", to_html(data).encode())
    return record


def write_plain(
    run: RunDirectory,
    output: Path,
    traced: Traced,
    finished: Finished,
    *,
    history: Sequence[Epoch],
    settings: dict[str, Any],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Write `report.json` of a net that was trained and not pruned; what it holds."""
    score = finished.score
    record = {
        "ortrim": version(),
        "created": _now(),
        "model": asdict(_model(str(output), finished.model)) | {"spec": traced.spec},
        "score": {"kind": score.kind, "value": score.value, "images": finished.images, "detail": score.detail},
        "joint": {"kind": "plain training", **_training(finished, history)},
        "settings": settings,
        "versions": _versions(),
        "notes": list(notes),
    }
    run.write("report.json", _as_json(record))
    return record


def _training(finished: Finished, history: Sequence[Epoch]) -> dict[str, Any]:
    return {
        "training_images": finished.training_images,
        "seconds": finished.seconds,
        "history": [asdict(row) for row in history],
    }


def _as_json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _model(path: str, model: onnx.ModelProto) -> ModelFacts:
    content = model.SerializeToString()
    loaded = graph.ensure_loaded(model)
    return ModelFacts(path, sha256(content), graph.parameters(loaded), graph.macs(loaded), len(content))


def _versions() -> dict[str, str]:
    import onnxruntime

    return {
        "ortrim": version(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "onnx": onnx.__version__,
        "torch": torch.__version__,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
