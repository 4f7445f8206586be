"""`ortrim serve` and `python -m ortrim.runtime.service`: the flags of the service."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]

_FILE = click.Path(path_type=Path)


@click.command("serve")
@click.option(
    "--device", default="cpu:threads=1", show_default=True, metavar="DEVICE", help="What of this machine to measure on."
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; all but loopback need a token."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one.")
@click.option("--token-file", type=_FILE, metavar="FILE", help="What clients have to know; or set ORTRIM_TOKEN.")
@click.option("--cert", type=_FILE, metavar="FILE", help="Certificate (PEM), for https.")
@click.option("--key", type=_FILE, metavar="FILE", help="Its key (PEM).")
@click.option("--folder", type=_FILE, metavar="DIR", help="Where models are kept; in the user's cache by default.")
@click.option(
    "--max-model-mb", type=click.IntRange(1, 2047), default=512, show_default=True, metavar="N", help="Of one model."
)
@click.option(
    "--store-mb", type=click.IntRange(min=1), default=2048, show_default=True, metavar="N", help="Of all that is kept."
)
@click.option(
    "--memory-mb",
    type=click.IntRange(min=64),
    default=4096,
    show_default=True,
    metavar="N",
    help="That a measurement may take.",
)
@click.option(
    "--job-seconds",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    metavar="S",
    help="That a measurement may take.",
)
def command(
    *,
    device: str,
    host: str,
    port: int,
    token_file: Path | None,
    cert: Path | None,
    key: Path | None,
    folder: Path | None,
    max_model_mb: int,
    store_mb: int,
    memory_mb: int,
    job_seconds: float,
) -> None:
    """Measure for others: the service that runs on the target device.

    It needs starlette and uvicorn (the extra `serve`), and no torch. From elsewhere it is --device http://HOST:PORT.
    """
    from ...errors import JobError

    try:
        from .app import Limits
        from .server import Serving, serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise JobError(f"{error.name} is not installed: pip install 'ortrim[serve]'") from error
    limits = Limits(max_model_mb, store_mb, memory_mb, job_seconds)
    serve(Serving(device, host, port, folder, token_file, cert, key, limits), click.echo)
