"""Nets in cheaper operators: `python benchmarks/strength.py [--net NAME ...] [--photographs N]`.

Each net as `load` gives it, and with `reduce_strength` besides, against the file as published, on photographs: how long
a PRelu takes depends on how often signs change, and noise changes them as often as can be.
"""

from __future__ import annotations

from collections import Counter

import click
import numpy as np
from common import SHARED, need, photographs, store

from ortrim.compressor.data import InputSpec, Preprocessing, load_data
from ortrim.graph import load, read, reduce_strength
from ortrim.graph.run import example_inputs
from ortrim.runtime import Device, compare

NETS = ("antispoof_minifasnet_bin_128", "espnet_camvid_360x480", "mtcnn_onet", "sinet_portrait_seg", "yolox_nano_416")
DEVICE = Device("cpu", threads=1)


@click.command()
@click.option("--net", "nets", multiple=True, default=NETS)
@click.option("--photographs", "count", default=5)
def main(nets: tuple[str, ...], count: int) -> None:
    rows = []
    for net in nets:
        original = read(need(SHARED / "models" / "third_party" / f"{net}.onnx"))
        loaded = load(original)
        cheaper = reduce_strength(loaded)
        images = load_data(photographs(count), InputSpec.from_model(loaded), Preprocessing(), count, 0)
        feeds = [{name: array[i : i + 1] for name, array in images.feeds().items()} for i in range(len(images))]
        before, after = (Counter(node.op_type for node in model.graph.node) for model in (loaded, cheaper))
        row = {"net": net, "gone": dict(before - after)}
        for kind, inputs in (("photographs", feeds), ("noise", [example_inputs(loaded)])):
            of_loaded, of_cheaper = (
                [compare(original, model, DEVICE, inputs=one, seconds=4.0) for one in inputs]
                for model in (loaded, cheaper)
            )
            row[f"ms, {kind}"] = float(np.median([found.baseline.median_ms for found in of_cheaper]))
            row[f"loaded, {kind}"] = float(np.median([found.value for found in of_loaded]))
            row[f"cheaper, {kind}"] = float(np.median([found.value for found in of_cheaper]))
        rows.append(row)
        store("strength", rows)


if __name__ == "__main__":
    main()
