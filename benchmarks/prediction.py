"""Predicted against measured latency of random plans: `python benchmarks/prediction.py [--plans 100]`.

Plans of ResNet-56 (akamaster) and MobileNetV2, every group at a width drawn from the candidates: the ratio that the
table of layers predicts, and the one that onnxruntime measures, interleaved with the original. `cpu:threads=1`,
batch 1.
"""

from __future__ import annotations

import time

import click
import numpy as np
from common import SHARED, need, store

from ortrim.compressor.cache import layer_cache
from ortrim.compressor.search.candidates import width_candidates
from ortrim.compressor.search.prediction import Prediction
from ortrim.graph import analyze, load, slim
from ortrim.runtime import Comparator, Device, LatencyTable, layer_shapes

MODELS = ("cifar10/akamaster_resnet56", "imagenet/mobilenet_v2_1.0_224")
SECONDS = 1.5
"""For measuring one plan."""


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values))


def row(name: str, plans: int, seed: int) -> dict[str, object]:
    """Rank correlation (Spearman) and relative errors, before and after the measured ratios correct the scale."""
    device = Device.parse("cpu:threads=1")
    model = load(need(SHARED / "models" / f"{name}.onnx"))
    analysis = analyze(model)
    table = LatencyTable(device, layer_cache())
    prediction = Prediction(analysis, layer_shapes(model), table)
    touched = prediction.layers_by_group
    offered = {group.name: width_candidates(group, touched[group.name]) for group in analysis.groups}
    rng = np.random.default_rng(seed)
    started = time.perf_counter()
    predicted, measured = [], []
    with Comparator(model, device, seconds=SECONDS, precision=0.02, seed=seed) as comparator:
        for _ in range(plans):
            widths = {name: int(rng.choice(candidates)) for name, candidates in offered.items()}
            removal = {group.name: range(widths[group.name], group.size) for group in analysis.groups}
            predicted.append(prediction.ratio(widths))
            measured.append(comparator.ratio(slim(model, removal, analysis=analysis)).value)
    p, m = np.array(predicted), np.array(measured)
    scaled = p * np.exp(np.median(np.log(m / p)))  # what a search learns from the first candidates
    return {
        "model": name.split("/")[1],
        "plans": plans,
        "rank_correlation": float(np.corrcoef(ranks(p), ranks(m))[0, 1]),
        "median_error": float(np.median(np.abs(p / m - 1))),
        "median_error_scaled": float(np.median(np.abs(scaled / m - 1))),
        "measured_low": float(m.min()),
        "measured_high": float(m.max()),
        "seconds": time.perf_counter() - started,
    }


@click.command()
@click.option("--plans", default=100)
@click.option("--seed", default=0)
def main(plans: int, seed: int) -> None:
    store("prediction", [row(name, plans, seed) for name in MODELS])


if __name__ == "__main__":
    main()
