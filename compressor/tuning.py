"""Fine-tuning as a stage of a job: the original teaches what came of the refit."""

from __future__ import annotations

from dataclasses import replace

import onnx

from .distill import Progress, distill
from .files import write_whole
from .job import Job
from .rundir import RunDirectory
from .sitting import Sitting
from .subject import Subject

__all__ = ["tune"]


def tune(job: Job, subject: Subject, small: onnx.ModelProto, run: RunDirectory, sitting: Sitting) -> onnx.ModelProto:
    """The slim net with the weights that came out best while it was taught; its own where none did.

    None are taken that lead below the least score that is asked for: what teaching gains shows least in it (see
    `Scorer.mark`). With several steps each gets an equal share of the epochs or the minutes. A run that was killed goes
    on from its checkpoint. The net as it came stays beside, as `refitted.onnx`.
    """
    assert job.finetune is not None
    epochs, minutes = job.finetune.epochs, job.finetune.minutes
    settings = replace(
        job.finetune,
        epochs=None if epochs is None else epochs / job.steps,
        minutes=None if minutes is None else minutes / job.steps,
    )
    write_whole(run.refitted, small.SerializeToString())
    progress = sitting.tuning()

    def tell(stand: Progress) -> None:
        progress.update(stand.done, stand.loss, stand.score, stand.best)

    with progress:
        found = distill(
            subject.loaded,
            small,
            subject.images.training,
            subject.judge,
            settings,
            seed=job.seed,
            label_offset=job.label_offset,
            checkpoint=run.checkpoint,
            progress=tell,
        )
    run.checkpoint.unlink(missing_ok=True)
    sitting.stages.end(f"fine-tuning, {found.epochs:.2g} epochs", found.after)
    sitting.notes.extend(note for note in found.notes if note not in sitting.notes)  # of each step the same
    if not found.improved:
        sitting.notes.append("fine-tuning brought the net no nearer to the original: weights are the refit's")
    elif found.after.value < (job.min_score or 0.0) <= found.before.value:
        sitting.notes.append(
            f"fine-tuning brought the net nearer to the original, but its score below --min-score {job.min_score:g} "
            f"({found.after.value:.4f}): weights are the refit's"
        )
        return small
    return found.model
