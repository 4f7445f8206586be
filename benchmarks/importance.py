"""Which importance chooses best? `python benchmarks/importance.py [--cifar DIR]`.

The same share of units goes out of every group of a net, chosen by each method in turn; then the same correction, once
cheap as in a search and once thorough as for a winner. The score is agreement with the original on training images that
neither the choice nor the correction saw. Chance is asked three times.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from cifar import unlabelled_training_images
from common import SHARED, WORK, need, store

from ortrim.compressor.data import InputSpec, Preprocessing, load_data
from ortrim.compressor.data.split import spread_order
from ortrim.compressor.prune import width_for
from ortrim.compressor.recovery import METHODS, Refitter, gather, rank, refit_sequentially
from ortrim.compressor.score import Scorer
from ortrim.graph import analyze, load, slim
from ortrim.runtime import Device

NORMALISE = Preprocessing.parse(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CALIBRATION, UNSEEN = 768, 2000
ROWS = 16
"""For each column, a quarter of what winners get: there are two dozen nets to refit."""


@click.command()
@click.option("--net", "nets", multiple=True, default=("akamaster_resnet20", "akamaster_resnet56"))
@click.option("--ratio", "ratios", multiple=True, type=float, default=(0.25, 0.5))
@click.option("--cifar", default=str(WORK / "cifar"), help="folder with train.npz")
def main(nets: tuple[str, ...], ratios: tuple[float, ...], cifar: str) -> None:
    rows = []
    for net in nets:
        model = load(need(SHARED / "models" / "cifar10" / f"{net}.onnx"))
        analysis = analyze(model)
        data = unlabelled_training_images(Path(cifar))
        dataset = load_data(data, InputSpec.from_model(model), NORMALISE, CALIBRATION + UNSEEN)
        order = spread_order(len(dataset), None, 0)
        images = dataset.subset(np.sort(order[:CALIBRATION])).feeds()
        scorer = Scorer.build(model, dataset.subset(np.sort(order[CALIBRATION:][:UNSEEN])), Device("cpu", threads=2))
        moments = gather(model, analysis, images)
        refitter = Refitter(model, analysis, moments)
        for ratio in ratios:
            plan = {group.name: width_for(group.size, ratio) for group in analysis.groups}
            for method in METHODS:
                for seed in range(3 if method == "random" else 1):
                    started = time.perf_counter()
                    removal = rank(model, analysis, method, moments, images=images, seed=seed).removal(plan)
                    seconds = time.perf_counter() - started
                    plain = slim(model, removal, analysis=analysis)
                    cheap = slim(refitter(removal), removal, analysis=analysis)
                    thorough = refit_sequentially(
                        model, cheap, removal, images, analysis=analysis, rows_per_column=ROWS
                    )
                    uncorrected, after_cheap, after_thorough = (scorer.score(m).value for m in (plain, cheap, thorough))
                    rows.append(
                        {
                            "net": net,
                            "share of units gone": ratio,
                            "importance": method,
                            "uncorrected": uncorrected,
                            "cheap correction": after_cheap,
                            "sequential refit": after_thorough,
                            "seconds to rank": seconds,
                        }
                    )
                    store("importance", rows)


if __name__ == "__main__":
    main()
