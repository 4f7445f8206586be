"""Seconds to load, analyse and slim a traced model: `python benchmarks/analysis_speed.py [MODEL.onnx ...]`.

Without arguments, torchvision's ResNet-152 is traced first (random weights).
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click
from common import WORK, store

from ortrim.graph import analyze, load, slim

REPEATS = 7


def timed(model: Path) -> dict[str, object]:
    started = time.perf_counter()
    loaded = load(model)
    loading = time.perf_counter() - started
    analysing, slimming = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        analysis = analyze(loaded)
        analysing.append(time.perf_counter() - started)
        removal = {group.name: range(group.size // 2) for group in analysis.groups if group.size > 1}
        started = time.perf_counter()
        slim(loaded, removal, analysis=analysis)
        slimming.append(time.perf_counter() - started)
    return {
        "model": model.stem,
        "nodes": len(loaded.graph.node),
        "groups": len(analysis.groups),
        "load_s": loading,
        "analyse_s": statistics.median(analysing),
        "slim_s": statistics.median(slimming),
    }


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path))
def main(models: tuple[Path, ...]) -> None:
    if not models:
        from ortrim.models.trace import trace

        resnet = WORK / "resnet152.onnx"
        if not resnet.exists():
            WORK.mkdir(parents=True, exist_ok=True)
            trace("torchvision:resnet152", resnet)
        models = (resnet,)
    store("analysis_speed", [timed(model) for model in models])


if __name__ == "__main__":
    main()
