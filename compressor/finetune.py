"""`finetune`: a slim model and the original go in, the slim model with better weights comes out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx

from .. import graph
from ..errors import DataError
from ..runtime import Device, usable_cores
from .data import InputSpec, Preprocessing, load_data
from .data.split import spread_order
from .distill import Distilled, Progress, Settings, distill, help_to_distill
from .facts import version
from .parallel import World
from .score import Scorer

__all__ = ["Finetuned", "finetune"]

HELD_OUT = 1000
"""Images that decide when to stop and which weights to take, a fifth of all at most."""


@dataclass(frozen=True)
class Finetuned:
    """What came of it."""

    model: onnx.ModelProto = field(repr=False)
    """Fit to be written; the slim model's own weights where training did not help."""
    distilled: Distilled
    kind: str
    """Of the score: accuracy or agreement."""
    teacher_score: float
    training_images: int
    held_out_images: int
    notes: tuple[str, ...]


def finetune(
    slim: str | os.PathLike[str],
    teacher: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str],
    settings: Settings,
    held_out: int = HELD_OUT,
    preprocessing: Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    label_offset: int = 0,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Finetuned | None:
    """The teacher, from which `slim` was made, teaches it on images.

    Of several processes that torchrun started, the first gives what came of it; the others help it, and give None.

    Args:
        data: images, see `load_data`; labels are optional. `held_out` of them score, all others train.
        settings: how long and how.
        checkpoint: see `distill`.

    Raises:
        InputError: settings, or a teacher whose inputs and outputs are not those of the model.
        ModelError: a model that cannot be read, or an operator that torch lacks.
        DataError: too few images, or ones that do not fit.
    """
    settings.check()
    student, original = graph.load(slim), graph.load(teacher)
    dataset = load_data(data, InputSpec.from_model(original, size), preprocessing)
    if len(dataset) < 5:
        raise DataError(f"{data} holds {len(dataset)} images: at least 5 are needed to train and to score")
    held_out = min(held_out, len(dataset) // 5)
    order = spread_order(len(dataset), dataset.labels, seed)
    held, training = (dataset.subset(np.sort(part)) for part in (order[:held_out], order[held_out:]))
    with World.of_torchrun() as world:
        if world.follows:
            help_to_distill(original, student, training, settings, seed=seed, label_offset=label_offset, world=world)
            return None
        device = Device("cpu", threads=usable_cores())
        scorer = Scorer.build(original, held, device, label_offset=label_offset, blends=True)
        found = distill(
            original,
            student,
            training,
            scorer,
            settings,
            seed=seed,
            label_offset=label_offset,
            checkpoint=checkpoint,
            progress=progress,
            world=world,
        )
    header = {item.key: item.value for item in graph.read(slim).metadata_props if item.key.startswith("ortrim.")}
    header |= {
        "ortrim.version": version(),
        "ortrim.finetuned": f"{found.steps} steps, {found.epochs:.3g} epochs, seed {seed}",
        "ortrim.score": f"{found.after.value:.4f} ({found.after.kind}, {found.after.detail})",
    }
    notes = [*scorer.notes, *found.notes]
    if not found.improved:
        notes.append("training brought the model no nearer to its teacher: the weights are those of the model given")
    if found.stopped_early:
        notes.append(f"ended early: {settings.patience} evaluations brought nothing better")
    model = graph.finish(found.model, header)
    return Finetuned(
        model,
        replace(found, model=model),
        found.after.kind,
        scorer.baseline.value,
        len(training),
        len(held),
        tuple(notes),
    )
