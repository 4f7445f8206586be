"""`ortrim train`: a net is trained from scratch, and loses channels while it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..joint.settings import AGENTS, Settings, flag, options
from .guard import interrupted_hint, quiet_onnxruntime
from .numbers import NumbersCommand
from .options import (
    FILE,
    data_option,
    device_option,
    force_option,
    json_option,
    output_option,
    preprocessing_options,
    seed_option,
    verbose_option,
)
from .show import note, say, show_json

if TYPE_CHECKING:
    from ..data import Preprocessing
    from ..joint import Trained

__all__ = ["command"]

SOURCES = {"P": "paper", "S": "reproduction", "ours": "ours"}


def hyper_parameters(function: Callable[..., None]) -> Callable[..., None]:
    """A flag for every number of the settings, with its default and where that comes from."""
    for item in reversed(list(options())):
        value = item.default
        kind = int if value is None or isinstance(value, int) else float
        shown = "" if value is None else f"{value:g}, "
        function = click.option(
            flag(item.name),
            item.name,
            type=kind,
            default=value,
            metavar="N" if kind is int else "R",
            help=f"{item.metadata['help']}  [{shown}{SOURCES[item.metadata['source']]}]",
        )(function)
    return function


@click.command("train", cls=NumbersCommand)
@click.argument("spec")
@data_option
@click.option("--latency", metavar="TARGET", help="0.6x of the whole net, or 4.5ms; not needed with --no-prune.")
@device_option("cpu:threads=1", "Where latency is measured")
@output_option("SLIM.onnx")
@click.option("--no-prune", is_flag=True, help="Train the net as it is: the control.")
@click.option("--no-representation", is_flag=True, help="The agent does not know the epoch (ablation).")
@click.option("--no-alignment", is_flag=True, help="Weights are not drawn to the chosen channels (ablation).")
@click.option("--random-agent", is_flag=True, help="Plans are drawn at random (ablation).")
@click.option(
    "--soft",
    is_flag=True,
    help="Channels that go stay on to the end, and are only drawn to 0 (the paper, as we read it).",
)
@click.option("--no-augment", is_flag=True, help="Take the images as they are.")
@hyper_parameters
@preprocessing_options
@seed_option
@click.option("--run-dir", type=FILE, metavar="DIR", help="Where the run is kept; SLIM.onnx.run by default.")
@click.option("--resume", is_flag=True, help="Go on with the run that is there, after its last epoch.")
@click.option("--tensorboard", type=FILE, metavar="DIR", help="Write TensorBoard's logs there.")
@force_option
@json_option
@verbose_option
@click.pass_context
def command(
    context: click.Context,
    *,
    spec: str,
    data: Path,
    latency: str | None,
    device: str,
    output: Path,
    no_prune: bool,
    no_representation: bool,
    no_alignment: bool,
    random_agent: bool,
    soft: bool,
    no_augment: bool,
    preprocessing: Preprocessing,
    size: tuple[int, int] | None,
    seed: int,
    run_dir: Path | None,
    resume: bool,
    tensorboard: Path | None,
    force: bool,
    as_json: bool,
    **numbers: Any,  # noqa: ANN401 (the settings' own)
) -> None:
    """Train a PyTorch net from scratch, and prune it while it learns.

    SPEC is torchvision:NAME, ortrim:NAME, or package.module:factory: a classifier. Its weights start at random; the
    images need labels, and a tenth of them is held out to reward plans.
    """
    settings = Settings(
        **numbers,
        agent=AGENTS[1] if random_agent else AGENTS[0],
        prune=not no_prune,
        representation=not (no_representation or random_agent),
        alignment=not no_alignment,
        hard=not soft,
        augment=not no_augment,
    )
    settings.check()
    from ..files import check_output

    check_output(output, force, inputs=[data])  # before the seconds that importing torch takes
    from ..joint import train

    quiet_onnxruntime()
    interrupted_hint(context, "; --resume goes on after the last epoch that was done")
    trained = train(
        spec,
        data=data,
        settings=settings,
        target=latency,
        device=device,
        output=output,
        run_dir=run_dir,
        preprocessing=preprocessing,
        size=size,
        seed=seed,
        tensorboard=tensorboard,
        resume=resume,
        force=force,
        show=True,
    )
    if trained is None:  # a process of torchrun that helped another
        return
    if as_json:
        show_json(trained.report)
        return
    for line in trained.report["notes"]:
        note(line)
    _say(trained)


def _say(trained: Trained) -> None:
    report = trained.report
    images = report["score"]["images"]
    if "latency" in report:
        latency, whole, chosen = report["latency"], report["joint"]["whole"], report["joint"]["chosen"]
        ratio, low, high = latency["ratio"], latency["low"], latency["high"]
        say(f"latency {ratio:.3f}x ({low:.3f} to {high:.3f}) on {report['device']['spec']}: the target is met")
        say(
            f"when its plan was chosen, after epoch {chosen['epoch']}: whole net {100 * whole['accuracy']:.2f} %, "
            f"part that stays {100 * chosen['reward']:.2f} %"
        )
        say(f"slim net: accuracy {100 * trained.accuracy:.2f} % on {images:,} held-out images, which chose its plan")
    else:
        say(f"accuracy {100 * trained.accuracy:.2f} % on {images:,} held-out images")
    say(f"model: {trained.output}")
    say(f"run:   {trained.run_dir}")
