"""Seconds to load, analyse and slim: `python benchmarks/analysis_speed.py [MODEL.onnx ...]`.

Without arguments: torchvision's ResNet-50, ResNet-152 and DenseNet-201 (traced first, random weights), and residual
nets of 1,000 to 10,000 nodes made here, which show how the time grows. CPU seconds, medians of a few repeats.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click
import numpy as np
import onnx
from common import WORK, store
from onnx import helper, numpy_helper

from ortrim.graph import analyze, load, slim

REPEATS = 5
NETS = ("resnet50", "resnet152", "densenet201")
NODES = (1_000, 3_000, 10_000)


def timed(name: str, model: Path | onnx.ModelProto) -> dict[str, object]:
    """`slim_s`: one candidate after the analysis, half the units of every group; a search does it hundreds of times."""
    started = time.process_time()
    loaded = load(model)
    loading = time.process_time() - started
    analysing, slimming = [], []
    for _ in range(REPEATS):
        started = time.process_time()
        analysis = analyze(loaded)
        analysing.append(time.process_time() - started)
        removal = {group.name: range(group.size // 2) for group in analysis.groups if group.size > 1}
        started = time.process_time()
        slim(loaded, removal, analysis=analysis)
        slimming.append(time.process_time() - started)
    return {
        "model": name,
        "nodes": len(loaded.graph.node),
        "groups": len(analysis.groups),
        "load_s": loading,
        "analyse_s": statistics.median(analysing),
        "slim_s": statistics.median(slimming),
    }


def residual_net(nodes: int) -> onnx.ModelProto:
    """Blocks of Conv, BatchNormalization, Relu, Conv, BatchNormalization, Add and Relu: seven nodes each."""
    rng = np.random.default_rng(0)
    weights: list[onnx.TensorProto] = []
    made = [helper.make_node("Conv", ["x", "stem"], ["stream0"], pads=[1] * 4)]

    def weight(name: str, *shape: int) -> str:
        weights.append(numpy_helper.from_array(rng.uniform(0.5, 1.5, shape).astype(np.float32), name))
        return name

    weight("stem", 16, 3, 3, 3)
    for block in range((nodes - 4) // 7):
        y = f"stream{block}"
        for half in range(2):
            name = f"block{block}.{half}"
            made.append(helper.make_node("Conv", [y, weight(f"{name}.w", 16, 16, 3, 3)], [f"{name}.c"], pads=[1] * 4))
            parameters = [weight(f"{name}.{part}", 16) for part in ("scale", "bias", "mean", "variance")]
            made.append(helper.make_node("BatchNormalization", [f"{name}.c", *parameters], [f"{name}.n"]))
            y = f"{name}.n"
            if half == 0:
                made.append(helper.make_node("Relu", [y], [f"{name}.r"]))
                y = f"{name}.r"
        made.append(helper.make_node("Add", [y, f"stream{block}"], [f"block{block}.sum"]))
        made.append(helper.make_node("Relu", [f"block{block}.sum"], [f"stream{block + 1}"]))
    made.append(helper.make_node("GlobalAveragePool", [made[-1].output[0]], ["mean"]))
    made.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    made.append(helper.make_node("Gemm", ["flat", weight("fc", 16, 10)], ["out"]))
    ends = [helper.make_tensor_value_info("x", 1, (1, 3, 16, 16)), helper.make_tensor_value_info("out", 1, (1, 10))]
    graph = helper.make_graph(made, "net", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--models", type=click.Path(path_type=Path), default=WORK / "zoo", help="where traced models are kept")
def main(files: tuple[Path, ...], models: Path) -> None:
    rows = [timed(file.stem, file) for file in files]
    if not files:
        from ortrim.models.trace import trace

        for name in NETS:
            file = models / f"{name}.default.onnx"
            if not file.exists():
                models.mkdir(parents=True, exist_ok=True)
                trace(f"torchvision:{name}", file)
            rows.append(timed(name, file))
        rows += [timed(f"residual net of {nodes} nodes", residual_net(nodes)) for nodes in NODES]
    store("analysis_speed", rows)


if __name__ == "__main__":
    main()
