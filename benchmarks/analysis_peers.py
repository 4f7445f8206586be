"""Half of every group by ortrim and by Torch-Pruning, side by side: `python benchmarks/analysis_peers.py [NET ...]`.

For torchvision's nets: parameters left and CPU seconds of analysis and cut together (`pip install torch-pruning`). Both
take half the channels of all layers but the classifier; Torch-Pruning with its defaults, uniform ratio, L2 norm. It
works on the module, ortrim on the file that the default exporter writes. They take turns within one run.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click
import torch
import torch_pruning as tp
from common import WORK, store
from torch import nn

from ortrim.graph import analyze, load, parameters, slim
from ortrim.models.build import build
from ortrim.models.trace import trace

NETS = """resnet18 resnet50 densenet121 densenet201 efficientnet_b0 mobilenet_v2 regnet_y_400mf convnext_tiny googlenet
shufflenet_v2_x1_0 shufflenet_v2_x0_5"""
REPEATS = 3


def ours(file: Path) -> tuple[float, float]:
    """Share of the parameters left, CPU seconds."""
    loaded = load(file)
    started = time.process_time()
    analysis = analyze(loaded)
    half = {group.name: range(group.size // 2) for group in analysis.groups if group.size > 1}
    small = slim(loaded, half, analysis=analysis)
    return parameters(small) / parameters(loaded), time.process_time() - started


def theirs(name: str) -> tuple[float, float]:
    """The same by Torch-Pruning."""
    net = build(f"torchvision:{name}")
    module = net.module
    whole = sum(p.numel() for p in module.parameters())
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    started = time.process_time()
    pruner = tp.pruner.MagnitudePruner(
        module,
        torch.randn(1, *net.shape),
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[last],
    )
    pruner.step()
    return sum(p.numel() for p in module.parameters()) / whole, time.process_time() - started


@click.command()
@click.argument("nets", nargs=-1)
@click.option("--models", type=click.Path(path_type=Path), default=WORK / "zoo", help="where traced models are kept")
def main(nets: tuple[str, ...], models: Path) -> None:
    torch.set_num_threads(1)
    rows = []
    for name in nets or NETS.split():
        file = models / f"{name}.default.onnx"
        if not file.exists():
            models.mkdir(parents=True, exist_ok=True)
            trace(f"torchvision:{name}", file)
        row: dict[str, object] = {"net": name}
        own, peer = [], []
        for _ in range(REPEATS):
            own.append(ours(file))
            try:
                peer.append(theirs(name))
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
                row["torch_pruning_failed"] = f"{type(error).__name__}: {error}"[:100]
                break
        row |= {"left": own[0][0], "seconds": statistics.median(seconds for _, seconds in own)}
        if peer:
            seconds = statistics.median(seconds for _, seconds in peer)
            row |= {"torch_pruning_left": peer[0][0], "torch_pruning_seconds": seconds}
            row["times_faster"] = seconds / row["seconds"]
        rows.append(row)
        click.echo(row)
    store("analysis_peers", rows)


if __name__ == "__main__":
    main()
