"""`ortrim finetune`: the original teaches a slim model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .guard import interrupted_hint, quiet_onnxruntime
from .numbers import NumbersCommand
from .options import (
    FILE,
    data_option,
    force_option,
    json_option,
    label_offset_option,
    model_argument,
    output_option,
    preprocessing_options,
    seed_option,
    verbose_option,
)
from .show import note, say, show_json

if TYPE_CHECKING:
    from ..data import Preprocessing
    from ..distill import Progress as Stand

__all__ = ["command"]


@click.command("finetune", cls=NumbersCommand)
@model_argument
@click.option("--teacher", type=FILE, required=True, metavar="MODEL.onnx", help="The original that it was made from.")
@data_option
@click.option("--epochs", type=float, metavar="N", help="Passes over the images.")
@click.option("--minutes", type=float, metavar="M", help="In place of --epochs: the schedule ends when the time does.")
@output_option("TUNED.onnx")
@click.option("--rate", type=float, metavar="R", help="Largest learning rate.")
@click.option("--batch", type=int, metavar="N", help="Images a step.")
@click.option("--labels", type=float, metavar="W", help="Weight of labels, where there are some, from 0 to 1.")
@click.option("--no-augment", is_flag=True, help="Take the images as they are.")
@click.option("--resume", is_flag=True, help="Go on from OUTPUT.checkpoint; without it one that is there is replaced.")
@preprocessing_options
@label_offset_option
@seed_option
@force_option
@json_option
@verbose_option
@click.pass_context
def command(
    context: click.Context,
    *,
    model: Path,
    teacher: Path,
    data: Path,
    epochs: float | None,
    minutes: float | None,
    output: Path,
    rate: float | None,
    batch: int | None,
    labels: float | None,
    no_augment: bool,
    resume: bool,
    preprocessing: Preprocessing,
    size: tuple[int, int] | None,
    label_offset: int,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Teach a slim model what the original says.

    Needs no labels; with labels it learns from both. Part of the images is held out: it decides which weights are
    taken, and none is written that is worse than the model given.
    """
    from ..distill import Settings
    from ..files import check_output, write_whole
    from ..finetune import finetune
    from ..progress import TuningProgress

    quiet_onnxruntime()
    chosen = {"rate": rate, "batch": batch, "labels": labels}
    settings = Settings(
        epochs=epochs,
        minutes=minutes,
        augment=not no_augment,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    settings.check()
    check_output(output, force, inputs=[model, teacher, data])
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    if not resume:
        checkpoint.unlink(missing_ok=True)
    interrupted_hint(context, "; where it had been scored once, --resume goes on")
    progress = TuningProgress()

    def tell(stand: Stand) -> None:
        progress.update(stand.done, stand.loss, stand.score, stand.best)

    with progress:
        found = finetune(
            model,
            teacher,
            data=data,
            settings=settings,
            preprocessing=preprocessing,
            size=size,
            label_offset=label_offset,
            seed=seed,
            checkpoint=checkpoint,
            progress=tell,
        )
    if found is None:  # a process of torchrun that helped another
        return
    write_whole(output, found.model.SerializeToString(), overwrite=force)
    checkpoint.unlink(missing_ok=True)
    for line in found.notes:
        note(line)
    result = found.distilled
    if as_json:
        show_json(
            {
                "model": str(model),
                "teacher": str(teacher),
                "output": str(output),
                "score": {
                    "kind": found.kind,
                    "teacher": found.teacher_score,
                    "before": result.before.value,
                    "after": result.after.value,
                    "images": found.held_out_images,
                },
                "training_images": found.training_images,
                "epochs": result.epochs,
                "steps": result.steps,
                "seconds": result.seconds,
                "images_per_second": result.images_per_second,
                "history": [list(item) for item in result.history],
                "settings": settings.to_dict(),
            }
        )
        return
    before, after = 100 * result.before.value, 100 * result.after.value
    say(f"{found.kind}: {before:.2f} % before, {after:.2f} % after, on {found.held_out_images:,} held-out images")
    say(f"{result.epochs:.3g} epochs of {found.training_images:,} images in {result.seconds:.0f} s: {output}")
