"""Flags that several commands take, each said once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from .guard import set_verbosity
from .numbers import Numbers

__all__ = [
    "FILE",
    "data_option",
    "device_option",
    "force_option",
    "json_option",
    "keep_option",
    "label_offset_option",
    "model_argument",
    "output_option",
    "preprocessing_options",
    "seed_option",
    "verbose_option",
]

FILE = click.Path(path_type=Path)
"""Whether it exists is for the readers to say: they also say what is wrong with it."""

Decorator = Callable[[Callable[..., None]], Callable[..., None]]

model_argument = click.argument("model", type=FILE, metavar="MODEL.onnx")

data_option = click.option(
    "--data",
    type=FILE,
    required=True,
    metavar="DATA",
    help="Images: a .npz, a folder of class folders, or a folder with labels.csv or images alone.",
)

seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, metavar="N", help="Of everything random."
)

json_option = click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")

force_option = click.option("--force", is_flag=True, help="Write over what is there.")

keep_option = click.option(
    "--keep",
    multiple=True,
    metavar="PATTERN",
    help="Leave layers alone whose names match, e.g. 'layer1.*'; may be repeated.",
)

label_offset_option = click.option(
    "--label-offset",
    type=int,
    default=0,
    metavar="N",
    help="Added to labels; 1 for nets whose class 0 is the background.",
)


def output_option(metavar: str) -> Decorator:
    """`-o`: the file to write."""
    return click.option("-o", "--output", type=FILE, required=True, metavar=metavar, help="The file to write.")


def device_option(default: str | None, purpose: str, *, remote: bool = True) -> Decorator:
    """`--device`, in the form of `Device.parse`; `remote` says whether the command can use a service."""
    return click.option(
        "--device",
        default=default,
        show_default=True,
        metavar="DEVICE",
        help=f"{purpose}, e.g. cpu:threads=1, cuda:0{' or http://HOST:PORT' if remote else ''}.",
    )


def _on_verbose(context: click.Context, _: click.Parameter, count: int) -> None:
    set_verbosity(context, count)


verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    is_eager=True,  # so that errors in the other flags know of it
    expose_value=False,
    callback=_on_verbose,
    help="Say what is being done, and show tracebacks; twice for more.",
)


def preprocessing_options(function: Callable[..., None]) -> Callable[..., None]:
    """`--mean`, `--std`, `--scale`, `--offset` and `--size` of a `NumbersCommand`.

    The function is called with `preprocessing` in place of the first four, and with `size`.
    """

    @click.option("--mean", type=Numbers(), metavar="R G B", help="(x/255 - mean) / std, per channel, on 0..1.")
    @click.option("--std", type=Numbers(), metavar="R G B", help="See --mean; one number is for all channels.")
    @click.option("--scale", type=float, metavar="S", help="x*S + O instead, for pixels x of 0..255.")
    @click.option("--offset", type=float, metavar="O", help="See --scale.")
    @click.option("--size", type=int, nargs=2, metavar="H W", help="Of images, where the model leaves it open.")
    @wraps(function)
    def with_preprocessing(
        *,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        scale: float | None,
        offset: float | None,
        **others: Any,  # noqa: ANN401 (whatever the command's own flags are)
    ) -> None:
        from ..data import Preprocessing

        function(preprocessing=Preprocessing.parse(mean, std, scale, offset), **others)

    return with_preprocessing
