"""Are the intervals honest? `python benchmarks/measuring.py [--runs 20]`, on an otherwise quiet machine.

The same pair of models is compared again and again, with and without busy processes, and models of a fraction of a
millisecond, of some milliseconds and of fifty and more are compared with themselves. The median of the quiet runs is
taken for the truth: how many intervals hold it, and how wide they are. Beside that, what a plain loop says (one session
each, one after the other, as onnxruntime's own perf test repeats a model), on the clock of the calling thread and on
the wall, and how many of the intervals hold it. `cpu:threads=1`, batch 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from common import SHARED, need, store

from ortrim.runtime import Device, Ratio, compare, example_inputs, open_session

BASELINE, CANDIDATE = "akamaster_resnet56", "akamaster_resnet20"
ITSELF = ("cifar10/akamaster_resnet56", "third_party/winml_cifar_classifier", "third_party/espnet_camvid_360x480")
DEVICE = Device.parse("cpu:threads=1")
REPETITIONS = 300


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """That many processes that never wait."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def repeated(model: Path, now: Callable[[], float]) -> float:
    """Mean seconds of a call, as a plain loop measures it."""
    session = open_session(model, DEVICE)
    call = session.bind(example_inputs(session))
    for _ in range(REPETITIONS // 10):
        call()
    start = now()
    for _ in range(REPETITIONS):
        call()
    return (now() - start) / REPETITIONS


def row(pair: str, load: int, ratios: list[Ratio], truth: float) -> dict[str, object]:
    values = np.array([ratio.value for ratio in ratios])
    held = [ratio.low <= truth <= ratio.high for ratio in ratios]
    return {
        "pair": pair,
        "busy_processes": load,
        "runs": len(ratios),
        "median": float(np.median(values)),
        "coverage": float(np.mean(held)),
        "median_width": float(np.median([(ratio.high - ratio.low) / ratio.value for ratio in ratios])),
        "largest_error": float(np.abs(values / truth - 1).max()),
        "drifted": sum(ratio.drifted for ratio in ratios),
    }


@click.command()
@click.option("--runs", default=20)
@click.option("--seconds", default=4.0, help="for each comparison")
@click.option("--load", default=1, help="busy processes")
def main(runs: int, seconds: float, load: int) -> None:
    first, second = (need(SHARED / "models" / "cifar10" / f"{name}.onnx") for name in (BASELINE, CANDIDATE))
    alone = {name: need(SHARED / "models" / f"{name}.onnx") for name in ITSELF}
    print(f"load before the first run: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    rows: list[dict[str, object]] = []
    truth = None
    for processes in (0, load):
        with busy(processes):
            pairs = [compare(first, second, DEVICE, seconds=seconds, seed=seed) for seed in range(runs)]
            same = {
                name: [compare(model, model, DEVICE, seconds=seconds, seed=seed) for seed in range(runs)]
                for name, model in alone.items()
            }
            loops = {
                name: repeated(second, now) / repeated(first, now)
                for name, now in (("thread", time.thread_time), ("wall", time.perf_counter))
            }
        truth = truth or float(np.median([ratio.value for ratio in pairs]))
        rows.append(row(f"{CANDIDATE} / {BASELINE}", processes, pairs, truth))
        for name, ratios in same.items():
            milliseconds = float(np.median([ratio.baseline.median_ms for ratio in ratios]))
            rows.append(row(f"{name.split('/')[1]} ({milliseconds:.2g} ms) / itself", processes, ratios, 1.0))
        for name, value in loops.items():
            within = float(np.mean([ratio.low <= value <= ratio.high for ratio in pairs]))
            rows.append(
                {"pair": f"plain loop, {name} time", "busy_processes": processes, "median": value, "coverage": within}
            )
    store("measuring", rows)


if __name__ == "__main__":
    main()
