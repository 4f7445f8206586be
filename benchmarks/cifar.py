"""CIFAR-10 ResNets to latency targets, without labels: `python benchmarks/cifar.py [--net NAME] [--latency 0.8x ...]`.

The search sees unlabelled training images only; the accuracy in the table is measured once, on the test images.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from common import SHARED, WORK, Recovery, need, of_jobs, ortrim, outcome, recovery_options, store

AKAMASTER = ("--mean", "0.485", "0.456", "0.406", "--std", "0.229", "0.224", "0.225")
CHENYAOFO = ("--mean", "0.4914", "0.4822", "0.4465", "--std", "0.2023", "0.1994", "0.2010")


def unlabelled_training_images(cifar: Path) -> Path:
    """The training images without their labels, beside `train.npz`."""
    train = need(cifar / "train.npz")
    unlabelled = train.with_name("train_unlabelled.npz")
    if not unlabelled.exists():
        with np.load(train) as archive:
            np.savez(unlabelled, images=archive["images"])
    return unlabelled


@click.command()
@click.option("--net", default="akamaster_resnet56", help="a model of models/cifar10")
@click.option("--latency", "targets", multiple=True, default=("0.8x", "0.7x"))
@click.option("--episodes", default=200)
@click.option("--agent", default="ortrim")
@click.option("--seed", default=0)
@click.option("--jobs", default=1, help="candidates at a time")
@click.option("--cifar", default=str(WORK / "cifar"), help="folder with train.npz and test.npz")
@recovery_options
def main(
    net: str, targets: tuple[str, ...], episodes: int, agent: str, seed: int, jobs: int, cifar: str, recovery: Recovery
) -> None:
    model = need(SHARED / "models" / "cifar10" / f"{net}.onnx")
    unlabelled, test = unlabelled_training_images(Path(cifar)), need(Path(cifar) / "test.npz")
    normalise = CHENYAOFO if net.startswith("chenyaofo") else AKAMASTER
    rows = []
    before = ortrim("evaluate", model, "--data", test, *normalise)
    name = f"{net}_{agent}{recovery.name}{of_jobs(jobs)}"
    for target in targets:
        run = WORK / f"{name}_{target}_{seed}"
        slim = run / "out.onnx"
        found = ortrim(
            *("compress", model, "--data", unlabelled, "--latency", target, "-o", slim, "--run-dir", run / "run"),
            *("--agent", agent, "--episodes", str(episodes), "--seed", str(seed), "--force", "--no-history"),
            *("--jobs", str(jobs), *recovery.flags, *normalise),
        )
        settings = {"net": net, "target": target, "agent": agent, "steps": recovery.steps, "seed": seed, "jobs": jobs}
        row = {**settings, **outcome(found)}
        if "failed" not in found:
            after = ortrim("evaluate", slim, "--data", test, *normalise)
            row |= {"original_test": before["score"]["value"], "slim_test": after["score"]["value"]}
        rows.append(row)
        store(name, rows)


if __name__ == "__main__":
    main()
