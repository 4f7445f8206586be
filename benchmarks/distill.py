"""A slim CIFAR-10 net taught by its original, without labels: `python benchmarks/distill.py SLIM.onnx [--minutes 20]`.

Training sees unlabelled training images, 1,000 of which are held out; the accuracy before and after is measured once,
on the test images. Rows are added to those of earlier runs, each with its machine. Several may run beside each other
with `OMP_NUM_THREADS=1`, each then on one core.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from cifar import AKAMASTER, unlabelled_training_images
from common import RESULTS, SHARED, WORK, conditions, need, ortrim, store

from ortrim.runtime import Device, compare


def row(net: str, latency: float, minutes: float, found: dict[str, Any], before: float, after: float) -> dict[str, Any]:
    """What the table shows of one run."""
    return {
        "net": net,
        "latency ratio": latency,
        "minutes": minutes,
        "epochs": found["epochs"],
        "images per second": found["images_per_second"],
        "agreement before": found["score"]["before"],
        "agreement after": found["score"]["after"],
        "test before": before,
        "test after": after,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        **{key: value for key, value in conditions().items() if key in ("date", "cpu")},
    }


@click.command()
@click.argument("slim", type=click.Path(path_type=Path))
@click.option("--net", default="akamaster_resnet56", help="the original, of models/cifar10")
@click.option("--minutes", default=20.0)
@click.option("--cifar", default=str(WORK / "cifar"), help="folder with train.npz and test.npz")
def main(slim: Path, net: str, minutes: float, cifar: str) -> None:
    teacher = need(SHARED / "models" / "cifar10" / f"{net}.onnx")
    test, tuned = need(Path(cifar) / "test.npz"), slim.with_name(f"{slim.stem}_tuned.onnx")
    found = ortrim(
        *("finetune", slim, "--teacher", teacher, "--data", unlabelled_training_images(Path(cifar))),
        *("--minutes", str(minutes), "-o", tuned, "--force", *AKAMASTER),
    )
    before, after = (ortrim("evaluate", model, "--data", test, *AKAMASTER)["score"]["value"] for model in (slim, tuned))
    ratio = compare(teacher, slim, Device.parse("cpu:threads=1")).value
    path = RESULTS / "distill.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    store("distill", [*rows, row(net, ratio, minutes, found, before, after)])


if __name__ == "__main__":
    main()
