"""`ortrim prune`: one ratio, no search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .guard import quiet_onnxruntime
from .numbers import NumbersCommand
from .options import (
    FILE,
    force_option,
    json_option,
    keep_option,
    model_argument,
    output_option,
    preprocessing_options,
    seed_option,
    verbose_option,
)
from .show import before_and_after, say, show_json, show_table

if TYPE_CHECKING:
    from ..data import Preprocessing

__all__ = ["command"]


@click.command("prune", cls=NumbersCommand)
@model_argument
@click.option("--ratio", type=float, required=True, metavar="R", help="Share of every group's units that goes, as 0.3.")
@output_option("SLIM.onnx")
@click.option("--data", type=FILE, metavar="DATA", help="Images to rank by and to refit what is left; see compress.")
@click.option(
    "--importance",
    metavar="NAME",
    help="What goes first, by: refit, taylor, activation (these need --data), l1, l2, bn or random. "
    "refit by default with --data, l2 without.",
)
@click.option("--round", "multiple", type=int, default=1, metavar="N", help="Round kept units up to a multiple of N.")
@keep_option
@preprocessing_options
@seed_option
@force_option
@json_option
@verbose_option
def command(
    *,
    model: Path,
    ratio: float,
    output: Path,
    data: Path | None,
    importance: str | None,
    multiple: int,
    keep: tuple[str, ...],
    preprocessing: Preprocessing,
    size: tuple[int, int] | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Remove one share of every layer, unsearched.

    Latency is not looked at: a quick look, and something to compare `ortrim compress` with.
    """
    from ...graph import macs, parameters
    from ..files import check_output
    from ..model_file import model_bytes, write_model
    from ..prune import prune
    from ..report.html import change, short

    quiet_onnxruntime()
    check_output(output, force, inputs=[path for path in (model, data) if path is not None])
    pruned = prune(
        model,
        ratio,
        data=data,
        importance=importance,
        multiple=multiple,
        keep=keep,
        preprocessing=preprocessing,
        size=size,
        seed=seed,
    )
    written = write_model(output, pruned.model, overwrite=force)
    rows = {
        "parameters": (parameters(pruned.original), parameters(pruned.model)),
        "macs": (macs(pruned.original), macs(pruned.model)),
        "bytes": (model_bytes(model), sum(file.stat().st_size for file in written)),
    }
    if as_json:
        before, after = ({name: row[i] for name, row in rows.items()} for i in (0, 1))
        show_json(
            {
                "model": {"path": str(model), **before},
                "slim": {"path": str(output), **after},
                "ratio": ratio,
                "importance": pruned.importance,
                "refitted": data is not None,
                "plan": pruned.plan,
            }
        )
        return
    shown = before_and_after()
    for (before, after), name, unit in zip(rows.values(), ("parameters", "MACs", "file"), ("", "", "B"), strict=True):
        shown.add_row(name, short(before, unit), short(after, unit), change(before, after))
    show_table(shown)
    refitted = ", what is left refitted on the images" if data is not None else ""
    say(f"{len(pruned.plan)} groups pruned by {pruned.importance}{refitted}: {output}")
