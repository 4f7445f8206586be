"""`ortrim compress`: the main job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...errors import InputError
from .guard import interrupted_hint, quiet_onnxruntime
from .numbers import NumbersCommand
from .options import (
    FILE,
    data_option,
    force_option,
    json_option,
    keep_option,
    label_offset_option,
    model_argument,
    output_option,
    preprocessing_options,
    seed_option,
    verbose_option,
)
from .show import headline, show_json

if TYPE_CHECKING:
    from ..data import Preprocessing

__all__ = ["command"]


@click.command("compress", cls=NumbersCommand)
@model_argument
@data_option
@click.option(
    "--latency",
    metavar="TARGET",
    help="0.6x of the original, or 4.5ms; measured, not estimated. Left out: the least that keeps --min-score.",
)
@output_option("SLIM.onnx")
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("cpu:threads=1",),
    show_default=True,
    metavar="DEVICE",
    help="Where latency is measured, e.g. cpu:threads=1, cuda:0 or http://HOST:PORT; of several, the target is met on "
    "each.",
)
@click.option(
    "--agent",
    default="ortrim",
    show_default=True,
    metavar="NAME",
    help="What searches: ortrim, ddpg, sac, rl-pruner, bocr; controls: greedy, knapsack, random, uniform; or "
    "package.module:factory.",
)
@click.option("--episodes", type=int, default=200, show_default=True, metavar="N", help="Candidates that are measured.")
@click.option(
    "--steps",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Go to the target in N searches, each from what the one before recovered.",
)
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    metavar="P",
    help="fp32, fp16 (on GPUs) or int8: of what comes out.",
)
@click.option(
    "--correction",
    default="sequential",
    show_default=True,
    metavar="C",
    help="Of candidates: sequential, or independent: quicker, and says less of how good they will be.",
)
@click.option(
    "--front",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="N nets in one search, down to the target; the slower ones are SLIM_0.84x.onnx and so on.",
)
@click.option(
    "--jobs", type=int, default=1, show_default=True, metavar="N", help="Score N candidates at a time, in N processes."
)
@click.option(
    "--ray", "cluster", metavar="ADDRESS", help="Score them on a Ray cluster instead; 'local' starts one here."
)
@click.option(
    "--history/--no-history",
    default=True,
    show_default=True,
    help="Keep this search's candidates for later ones, and start from earlier ones.",
)
@click.option(
    "--warm-start/--no-warm-start",
    default=True,
    show_default=True,
    help="Start from what the history has where some of it helps.",
)
@click.option("--finetune", type=float, metavar="EPOCHS", help="Teach the winner on the images: so many passes.")
@click.option("--finetune-minutes", type=float, metavar="M", help="In place of --finetune: for so many minutes.")
@click.option(
    "--min-score", type=float, metavar="S", help="Write nothing that scores less; a share between 0 and 1, as 0.9."
)
@click.option(
    "--calibration",
    type=int,
    default=768,
    show_default=True,
    metavar="N",
    help="Images that corrections are fitted on.",
)
@keep_option
@preprocessing_options
@label_offset_option
@seed_option
@click.option("--run-dir", type=FILE, metavar="DIR", help="Where the run is kept; OUTPUT.run by default.")
@click.option("--resume", is_flag=True, help="Go on with the run in the run directory.")
@force_option
@json_option
@verbose_option
@click.pass_context
def command(
    context: click.Context,
    *,
    model: Path,
    data: Path,
    latency: str | None,
    output: Path,
    devices: tuple[str, ...],
    agent: str,
    episodes: int,
    steps: int,
    precision: str,
    correction: str,
    history: bool,
    warm_start: bool,
    front: int,
    jobs: int,
    cluster: str | None,
    finetune: float | None,
    finetune_minutes: float | None,
    min_score: float | None,
    calibration: int,
    keep: tuple[str, ...],
    preprocessing: Preprocessing,
    size: tuple[int, int] | None,
    label_offset: int,
    seed: int,
    run_dir: Path | None,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Compress a model to a latency target.

    Searches for the widths that keep the score and meet the target on the device, refits what is left, checks it
    against the original, and writes SLIM.onnx and a report.
    """

    from ..distill import Settings
    from ..pipeline import compress
    from ..report import to_json

    quiet_onnxruntime()
    if finetune is not None and finetune_minutes is not None:
        raise InputError("give either --finetune EPOCHS or --finetune-minutes M")
    tuning = None
    if finetune is not None or finetune_minutes is not None:
        tuning = Settings(epochs=finetune, minutes=finetune_minutes)
    interrupted_hint(context, "; where the search had begun, --resume goes on")
    result = compress(
        model,
        data=data,
        target=latency,
        device=devices,
        agent=agent,
        episodes=episodes,
        steps=steps,
        finetune=tuning,
        precision=precision,
        correction=correction,
        history=history,
        warm_start=warm_start,
        front=front,
        jobs=jobs,
        cluster=cluster,
        seed=seed,
        output=output,
        run_dir=run_dir,
        calibration=calibration,
        preprocessing=preprocessing,
        size=size,
        keep=keep,
        min_score=min_score,
        label_offset=label_offset,
        resume=resume,
        force=force,
        show=True,
    )
    if as_json:
        show_json({**json.loads(to_json(result.report)), "run_dir": str(result.run_dir)})
    else:
        headline(result.report, result.run_dir)
