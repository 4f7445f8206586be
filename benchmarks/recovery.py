"""What closed-form recovery costs: `python benchmarks/recovery.py`.

Each net in a process of its own: gathering second moments, ranking, refitting one candidate layer by layer and each
layer alone (medians of some plans, the first left out), the sequential refit of one winner, and the most memory that
the process ever held, before and after.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from common import SHARED, WORK, need, store

NETS = {
    "resnet20": ("cifar10/akamaster_resnet20", "cifar", {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}),
    "resnet56": ("cifar10/akamaster_resnet56", "cifar", {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}),
    "mobilenetv2": ("imagenet/mobilenet_v2_1.0_224", "imagenet/calibration", {"scale": 1 / 128, "offset": -1.0}),
    "espnet": ("third_party/espnet_camvid_360x480", "imagenet/calibration", {}),
}
SAMPLES = {"espnet": 60}
PLANS = 7


def measured(name: str, cifar: Path, samples: int) -> dict[str, object]:
    """The row of one net, in this process."""
    from ortrim.compressor.data import InputSpec, Preprocessing, load_data
    from ortrim.compressor.recovery import Alone, Corrector, gather, rank, refit_sequentially, samples_for
    from ortrim.graph import analyze, load, macs

    model_name, data, normalise = NETS[name]
    model = load(need(SHARED / "models" / f"{model_name}.onnx"))
    analysis = analyze(model)
    path = cifar / "train.npz" if data == "cifar" else SHARED / data
    spec = InputSpec.from_model(model)
    dataset = load_data(need(path), spec, Preprocessing.parse(**normalise), samples).unlabelled()
    images = dataset.feeds()
    before = peak_mb()
    seconds = {}

    def timed(stage: str, since: float) -> None:
        seconds[stage] = time.perf_counter() - since

    started = time.perf_counter()
    moments = gather(model, analysis, images)
    timed("gather s", started)
    started = time.perf_counter()
    ranking = rank(model, analysis, moments=moments)
    timed("rank s", started)
    corrected = Corrector(model, analysis, moments, images, samples=samples_for(macs(model)))
    alone = Alone(model, analysis, moments)
    rng = np.random.default_rng(0)
    plans = [
        ranking.removal({g.name: int(rng.integers(max(1, g.size // 3), g.size + 1)) for g in analysis.groups})
        for _ in range(PLANS)
    ]

    def median_s(correct: Callable[[Mapping[str, Sequence[int]]], object]) -> float:
        spent = []
        for plan in plans:
            since = time.perf_counter()
            correct(plan)
            spent.append(time.perf_counter() - since)
        return float(np.median(spent[1:]))

    candidates = {"candidate s": median_s(corrected), "candidate, layers alone, s": median_s(alone)}
    removal, candidate = plans[-1], alone(plans[-1])
    started = time.perf_counter()
    refit_sequentially(model, candidate, removal, images, analysis=analysis)
    timed("sequential refit s", started)
    return {
        "net": name,
        "samples": len(dataset),
        **seconds,
        **candidates,
        "MB before": before,
        "peak MB": peak_mb(),
    }


def peak_mb() -> float:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@click.command()
@click.option("--cifar", default=str(WORK / "cifar"), help="folder with train.npz")
@click.option("--samples", default=768)
@click.option("--only", default="", hidden=True)
@click.argument("nets", nargs=-1)
def main(cifar: str, samples: int, only: str, nets: tuple[str, ...]) -> None:
    if only:
        print(json.dumps(measured(only, Path(cifar), min(samples, SAMPLES.get(only, samples)))))
        return
    rows = []
    for name in nets or NETS:
        command = [sys.executable, __file__, "--only", name, "--cifar", cifar, "--samples", str(samples)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout))
        store("recovery", rows)


if __name__ == "__main__":
    main()
