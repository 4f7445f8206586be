"""What a search costs more, and whether it measures the same, when the device is a service on loopback.

    python benchmarks/service_overhead.py [--pairs 3] [--episodes 60] [--net akamaster_resnet20]

The same search in process and against `ortrim serve`, in turn, each with an empty cache of layers, so that both measure
all there is to measure. Plans that came up in both runs of a pair are compared: whether their intervals overlap.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
import numpy as np
from cifar import AKAMASTER, unlabelled_training_images
from common import SHARED, WORK, need, ortrim, store

DEVICE = "cpu:threads=1"


@contextmanager
def service(log: Path) -> Iterator[str]:
    """Its address."""
    command = [sys.executable, "-m", "ortrim.runtime.service", "--device", DEVICE, "--port", "0"]
    with tempfile.TemporaryDirectory() as folder, log.open("w") as out:
        process = subprocess.Popen([*command, "--folder", folder], stdout=subprocess.PIPE, stderr=out, text=True)
        try:
            assert process.stdout is not None
            said = next(line for line in process.stdout if "http" in line)
            found = re.search(r"http://[^\s/]+", said)
            if found is None:
                sys.exit(f"the service gave no address: {said}")
            yield found.group()
        finally:
            process.terminate()
            process.wait()


def latencies(run: Path) -> dict[str, list[float]]:
    """Plan -> ratio, low, high of a run's trials."""
    with closing(sqlite3.connect(run / "trials.sqlite")) as database:
        return {
            plan: (ratio, low, high)
            for plan, ratio, low, high in database.execute("SELECT plan, ratio, low, high FROM trials")
        }


@click.command()
@click.option("--net", default="akamaster_resnet20")
@click.option("--latency", default="0.7x")
@click.option("--episodes", default=60)
@click.option("--agent", default="knapsack")
@click.option("--pairs", default=3)
@click.option("--cifar", default=str(WORK / "cifar"), help="folder with train.npz")
def main(net: str, latency: str, episodes: int, agent: str, pairs: int, cifar: str) -> None:
    model = need(SHARED / "models" / "cifar10" / f"{net}.onnx")
    data = unlabelled_training_images(Path(cifar))
    seconds: dict[str, list[float]] = {"in process": [], "loopback": []}
    finals: dict[str, list[float]] = {"in process": [], "loopback": []}
    common, overlapping, differences = 0, 0, []
    WORK.mkdir(parents=True, exist_ok=True)
    with service(WORK / "service.log") as address:
        for pair in range(pairs):
            found = {}
            places = [("in process", DEVICE), ("loopback", address)]
            for place, device in places if pair % 2 == 0 else reversed(places):
                with tempfile.TemporaryDirectory() as cache:
                    os.environ["XDG_CACHE_HOME"] = cache
                    run = WORK / "overhead" / place.replace(" ", "_")
                    result = ortrim(
                        *(
                            "compress",
                            model,
                            "--data",
                            data,
                            "--latency",
                            latency,
                            "--run-dir",
                            run,
                            "--force",
                            "--no-history",
                        ),
                        *("-o", run.with_suffix(".onnx")),
                        *("--device", device, "--agent", agent, "--episodes", str(episodes), *AKAMASTER),
                    )
                if "failed" in result:
                    sys.exit(f"the search {place} failed")
                seconds[place].append(result["wall_seconds"])
                finals[place].append(result["latency"]["ratio"])
                found[place] = latencies(run)
            here, there = found["in process"], found["loopback"]
            for plan in here.keys() & there.keys():
                common += 1
                overlapping += here[plan][1] <= there[plan][2] and there[plan][1] <= here[plan][2]
                differences.append(abs(here[plan][0] / there[plan][0] - 1))
    ratios = [b / a for a, b in zip(seconds["in process"], seconds["loopback"], strict=True)]
    row = {
        "net": net,
        "target": latency,
        "agent": agent,
        "episodes": episodes,
        "pairs": pairs,
        "seconds in process": float(np.median(seconds["in process"])),
        "seconds on loopback": float(np.median(seconds["loopback"])),
        "median of ratios of seconds": float(np.median(ratios)),
        "plans in both": common,
        "intervals that overlap": overlapping,
        "median difference": float(np.median(differences)) if differences else None,
        "final ratios in process": ", ".join(f"{value:.3f}" for value in finals["in process"]),
        "final ratios on loopback": ", ".join(f"{value:.3f}" for value in finals["loopback"]),
    }
    store("service_overhead", [row])


if __name__ == "__main__":
    main()
