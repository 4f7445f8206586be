"""MobileNetV2 (ImageNet) with 500 unlabelled calibration images: `python benchmarks/imagenet.py [--latency 0.8x]`."""

from __future__ import annotations

import click
from common import SHARED, WORK, Recovery, need, of_jobs, ortrim, outcome, recovery_options, store

INPUT = ("--scale", "0.0078125", "--offset", "-1")  # x/128 - 1


@click.command()
@click.option("--net", default="mobilenet_v2_1.0_224")
@click.option("--latency", "targets", multiple=True, default=("0.8x",))
@click.option("--episodes", default=200)
@click.option("--agent", default="ortrim")
@click.option("--seed", default=0)
@click.option("--jobs", default=1, help="candidates at a time")
@recovery_options
def main(
    net: str, targets: tuple[str, ...], episodes: int, agent: str, seed: int, jobs: int, recovery: Recovery
) -> None:
    model = need(SHARED / "models" / "imagenet" / f"{net}.onnx")
    calibration, val = need(SHARED / "imagenet" / "calibration"), need(SHARED / "imagenet" / "val")
    rows = []
    labelled = ("--label-offset", "1", *INPUT)
    before = ortrim("evaluate", model, "--data", val, *labelled)
    name = f"{net}_{agent}{recovery.name}{of_jobs(jobs)}"
    for target in targets:
        run = WORK / f"{name}_{target}_{seed}"
        slim = run / "out.onnx"
        found = ortrim(
            *("compress", model, "--data", calibration, "--latency", target, "-o", slim, "--run-dir", run / "run"),
            *("--agent", agent, "--episodes", str(episodes), "--seed", str(seed), "--force", "--no-history"),
            *("--jobs", str(jobs), *recovery.flags, *INPUT),
        )
        settings = {"net": net, "target": target, "agent": agent, "steps": recovery.steps, "seed": seed, "jobs": jobs}
        row = {**settings, **outcome(found)}
        if "failed" not in found:
            after = ortrim("evaluate", slim, "--data", val, *labelled)
            agreement = ortrim("evaluate", slim, "--data", val, "--reference", model, *INPUT)
            row |= {"original_val": before["score"]["value"], "slim_val": after["score"]["value"]}
            row |= {"agreement_val": agreement["score"]["value"]}
        rows.append(row)
        store(name, rows)


if __name__ == "__main__":
    main()
