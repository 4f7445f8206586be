"""`ortrim trace`: a net by name to an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .build import build
from .export import Exporter, check_writable, export

__all__ = ["trace"]


def trace(
    spec: str,
    output: str | Path,
    *,
    size: tuple[int, int] | None = None,
    batch: int | Literal["dynamic"] = "dynamic",
    weights: str | Path | None = None,
    opset: int | None = None,
    exporter: Exporter = "default",
    seed: int = 0,
    force: bool = False,
) -> Path:
    """Build the net that `spec` names and write it as ONNX.

        trace("torchvision:resnet50", "resnet50.onnx")

    The arguments are those of `build.build` and `export.export`, and so are the errors.

    Returns:
        The file that was written.
    """
    check_writable(Path(output), force=force)  # before the seconds that building takes
    net = build(spec, size=size, weights=weights, seed=seed)
    return export(net.module, output, net.shape, batch=batch, opset=opset, exporter=exporter, force=force)
