"""`ortrim trace`: from PyTorch to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from .guard import quiet_onnxruntime
from .options import FILE, force_option, json_option, output_option, seed_option, verbose_option
from .show import say, show_json

__all__ = ["command"]

Exporter = Literal["default", "legacy"]


def _batch(_: click.Context, option: click.Parameter, value: str) -> int | Literal["dynamic"]:
    if value == "dynamic":
        return value
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither 'dynamic' nor a number of images", param=option)
    return int(value)


@click.command("trace")
@click.argument("spec")
@output_option("OUT.onnx")
@click.option("--size", type=int, nargs=2, metavar="H W", help="Of images; what the net was designed for by default.")
@click.option(
    "--batch",
    default="dynamic",
    show_default=True,
    callback=_batch,
    metavar="N",
    help="Images at a time, or 'dynamic'.",
)
@click.option("--weights", type=FILE, metavar="FILE", help="A state dict, as torch.save writes it; random without.")
@click.option("--opset", type=int, metavar="N", help="Version of the ONNX operators; the exporter's own by default.")
@click.option(
    "--exporter",
    type=click.Choice(["default", "legacy"]),
    default="default",
    show_default=True,
    help="legacy goes through TorchScript, for nets that the default refuses.",
)
@seed_option
@force_option
@json_option
@verbose_option
def command(
    *,
    spec: str,
    output: Path,
    size: tuple[int, int] | None,
    batch: int | Literal["dynamic"],
    weights: Path | None,
    opset: int | None,
    exporter: Exporter,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write a PyTorch net as ONNX.

    SPEC is torchvision:NAME, ortrim:NAME, or package.module:factory, a callable without arguments. Nothing is
    downloaded: weights are random unless --weights names a file.
    """
    from ..files import check_output

    check_output(output, force)  # before the seconds that importing torch takes
    from ...graph import load, macs, parameters
    from ...models.trace import trace
    from ..report.html import short

    quiet_onnxruntime()
    trace(
        spec,
        output,
        size=size,
        batch=batch,
        weights=weights,
        opset=opset,
        exporter=exporter,
        seed=seed,
        force=force,
    )
    model = load(output)
    if as_json:
        show_json({"path": str(output), "spec": spec, "parameters": parameters(model), "macs": macs(model)})
    else:
        say(f"{output}: {short(parameters(model))} parameters, {short(macs(model))} MACs")
