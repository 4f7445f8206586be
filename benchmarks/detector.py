"""Does a detector keep its boxes? YOLOX-Nano on photographs: `python benchmarks/detector.py [--latency 0.8x]`.

It is compressed on photographs of ImageNet's training set, and compared with the original on photographs of its
validation set. Boxes of both are decoded (YOLOX: the offset from a cell in units of its stride, logarithms of sizes),
those above a confidence of 0.3 are kept, and non-maximum suppression at an overlap of 0.45 is done within each class.
A box of the original is kept by the slim net where that has one of the same class with an intersection over union of
at least 0.5 with it; each box counts once, most confident first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import torch
from common import SHARED, WORK, Recovery, compress_on_photographs, need, outcome, recovery_options, store
from torchvision.ops import batched_nms, box_iou

from ortrim.compressor.data import InputSpec, Preprocessing, load_data
from ortrim.graph import load

NET = "yolox_nano_416"
PIXELS = ("--scale", "1", "--offset", "0")
STRIDES = (8, 16, 32)
CONFIDENT, SUPPRESSED, SAME = 0.3, 0.45, 0.5


@dataclass(frozen=True)
class Boxes:
    """What a net sees on one image, most confident first."""

    corners: torch.Tensor
    """`n x 4`: left, top, right, bottom."""
    classes: torch.Tensor


def decoded(output: np.ndarray, size: int) -> Boxes:
    """Boxes of one image from the net's `cells x (4 + 1 + classes)`."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: size // stride, : size // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((x.size, 1), stride))
    at, stride = np.concatenate(cells), np.concatenate(strides)
    centre, extent = (output[:, :2] + at) * stride, np.exp(output[:, 2:4]) * stride
    confidence, classes = torch.from_numpy(output[:, 4:5] * output[:, 5:]).max(dim=1)
    corners = torch.from_numpy(np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)).float()
    sure = confidence > CONFIDENT
    corners, confidence, classes = corners[sure], confidence[sure], classes[sure]
    left = batched_nms(corners, confidence, classes, SUPPRESSED)
    return Boxes(corners[left], classes[left])


def seen(model: Path, images: np.ndarray) -> list[Boxes]:
    """Boxes on every image, `n x 3 x size x size`."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [decoded(session.run(None, {name: image[None]})[0][0], images.shape[-1]) for image in images]


def matched(wanted: Boxes, found: Boxes) -> list[float]:
    """Overlap of each wanted box with the found one that keeps it; those that are lost are missing."""
    overlaps, free = [], torch.ones(len(found.corners), dtype=torch.bool)
    for corners, label in zip(wanted.corners, wanted.classes, strict=True):
        overlap = box_iou(corners[None], found.corners)[0] if len(free) else torch.zeros(0)
        overlap = torch.where(free & (found.classes == label), overlap, -1.0)
        if len(overlap) and float(overlap.max()) >= SAME:
            free[overlap.argmax()] = False
            overlaps.append(float(overlap.max()))
    return overlaps


def kept(original: Sequence[Boxes], slim: Sequence[Boxes]) -> dict[str, float]:
    """What the table shows."""
    overlaps = [overlap for pair in zip(original, slim, strict=True) for overlap in matched(*pair)]
    before, after = (sum(len(boxes.corners) for boxes in of) for of in (original, slim))
    return {
        "boxes": before,
        "kept": len(overlaps) / before,
        "of the slim net's": len(overlaps) / max(1, after),
        "mean overlap": float(np.mean(overlaps)) if overlaps else 0.0,
    }


@click.command()
@click.option("--latency", default="0.8x")
@click.option("--episodes", default=60)
@click.option("--images", "count", default=500, help="how many of the calibration images are used")
@click.option("--calibration", default=334)
@click.option("--seed", default=0)
@click.option("--jobs", default=1, help="candidates at a time")
@recovery_options
def main(latency: str, episodes: int, count: int, calibration: int, seed: int, jobs: int, recovery: Recovery) -> None:
    model, val = need(SHARED / "models" / "third_party" / f"{NET}.onnx"), need(SHARED / "imagenet" / "val")
    run = WORK / f"{NET}_{latency}{recovery.name}"
    found = compress_on_photographs(
        NET,
        PIXELS,
        run,
        latency=latency,
        episodes=episodes,
        count=count,
        calibration=calibration,
        seed=seed,
        recovery=recovery,
        jobs=jobs,
    )
    row: dict[str, Any] = {"net": NET, "target": latency, "calibration": calibration, **outcome(found)}
    if "failed" not in found:
        preprocessing = Preprocessing.parse(scale=1.0, offset=0.0)
        (images,) = load_data(val, InputSpec.from_model(load(model)), preprocessing).unlabelled().feeds().values()
        row |= kept(seen(model, images), seen(run / "out.onnx", images))
    store(f"detector{recovery.name}", [row])


if __name__ == "__main__":
    main()
