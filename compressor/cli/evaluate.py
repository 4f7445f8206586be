"""`ortrim evaluate`: how good a model is on data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .guard import quiet_onnxruntime
from .numbers import NumbersCommand
from .options import (
    FILE,
    data_option,
    device_option,
    json_option,
    label_offset_option,
    model_argument,
    preprocessing_options,
    verbose_option,
)
from .show import note, say, show_json, show_table, table

if TYPE_CHECKING:
    from ..data import Preprocessing
    from ..score import ClassScore

__all__ = ["command"]


@click.command("evaluate", cls=NumbersCommand)
@model_argument
@data_option
@click.option("--reference", type=FILE, metavar="ORIGINAL.onnx", help="Compare with this model instead of labels.")
@preprocessing_options
@label_offset_option
@click.option("--per-class", is_flag=True, help="The score of each class too.")
@device_option("cpu", "Where the model is run", remote=False)
@json_option
@verbose_option
def command(
    *,
    model: Path,
    data: Path,
    reference: Path | None,
    preprocessing: Preprocessing,
    size: tuple[int, int] | None,
    label_offset: int,
    per_class: bool,
    device: str,
    as_json: bool,
) -> None:
    """Score a model on images.

    Accuracy where there are labels, or agreement with another model (--reference).
    """
    from ...errors import InputError
    from ...graph import misfit, read
    from ...runtime import Device
    from ..data import InputSpec, load_data
    from ..score import evaluate

    quiet_onnxruntime()
    place = Device.parse(device)
    if place.is_remote:
        raise InputError(f"--device {device}: images are run on this machine, e.g. on cpu; services measure latency")
    candidate = read(model)
    spec = InputSpec.from_model(candidate, size)
    # Told before the images are read, as is a damaged file.
    found = None if reference is None else misfit(candidate, read(reference), "output")
    if found is not None:
        raise InputError(f"{model} cannot be compared with --reference {reference}: {found}")
    dataset = load_data(data, spec, preprocessing)
    result = evaluate(model, dataset, reference, place, label_offset=label_offset)
    for line in result.notes:
        note(line)
    score = result.score
    if as_json:
        classes = {"classes": [asdict(item) for item in result.per_class]} if per_class else {}
        show_json(
            {
                "model": str(model),
                "data": str(data),
                "reference": None if reference is None else str(reference),
                "score": {"kind": score.kind, "detail": score.detail, "value": score.value},
                "images": result.samples,
                **classes,
            }
        )
        return
    beside = "" if reference is None else f" with {reference}"
    say(f"{score.kind}{beside}: {100 * score.value:.2f} % ({score.detail}, {result.samples:,} images)")
    if per_class:
        _show_classes(result.per_class, reference is not None)


def _show_classes(classes: tuple[ClassScore, ...], by_reference: bool) -> None:
    if not classes:
        note("the score has no classes: the model does not map an image to a class")
        return
    rows = table("class of the reference" if by_reference else "class", ">images", ">score")
    for item in classes:
        rows.add_row(item.name, f"{item.samples:,}", f"{100 * item.value:.2f} %")
    show_table(rows)
