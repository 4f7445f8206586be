"""Torch modules of real graphs: do they compute what onnxruntime does, and how fast do they train?

`python benchmarks/torch_module.py agree [FILE|DIR ...]` runs every graph once in both, on random inputs, one thread and
one process each; `results/torch_module.json` grows as they come, so a run that was stopped goes on. Two graphs that
differ in their last digits are told apart from wrong ones by running the module in float64 too. A graph of a fixed
batch which the module takes with another is run on three images, together and one by one.

`python benchmarks/torch_module.py train` measures a training step against the net that the graph was exported from,
interleaved; results go to `results/torch_module_training.json`.
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import onnx
from common import RESULTS, SHARED, WORK, conditions, store

STORED = RESULTS / "torch_module.json"
LARGEST = 400 * 2**20
"""Bytes of a file; larger ones are left out."""
TOLERANCE = 1e-4
FREE_SIZES = {"silero_vad": 512, "yunet_s_dynamic": 64, "ppocr_mobile_v2_det": 64, "openwakeword_embedding": 2}
"""What sizes that are not fixed become (2 for all others): these graphs shrink or need more."""
STEPS, WARM = 8, 2


def _difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute value."""
    if found.shape != wanted.shape:
        return float("inf")
    if not wanted.size:
        return 0.0
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    if not np.array_equal(np.isfinite(found), np.isfinite(wanted)):
        return float("inf")
    apart = np.abs(np.where(np.isfinite(wanted), found - wanted, 0.0)).max()
    return float(apart / max(np.abs(np.where(np.isfinite(wanted), wanted, 0.0)).max(), 1e-30))


def _named(file: Path) -> tuple[str, str]:
    """Model, and which of torch's exporters wrote it (empty: neither)."""
    name, _, exporter = file.stem.rpartition(".")
    return (name, exporter) if exporter in ("default", "legacy") else (file.stem, "")


def _fill(model: onnx.ModelProto) -> None:
    """Random entries for weights that are all zero, in place: a classifier that starts at 0 hides everything."""
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size > 1 and not value.any():
            filled = rng.normal(0, 0.02, value.shape).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(filled, tensor.name))


def one(file: Path) -> dict[str, object]:
    """The row of one graph."""
    import torch

    from ortrim.errors import OrtrimError
    from ortrim.graph import load, to_torch
    from ortrim.graph.run import example_inputs, run_as_written

    torch.set_num_threads(1)
    name, exporter = _named(file)
    row: dict[str, object] = {"model": name, "exporter": exporter}
    model = load(file)
    _fill(model)
    try:
        started = time.perf_counter()
        module = to_torch(model)
        row["build_s"] = time.perf_counter() - started
    except OrtrimError as error:
        return {**row, "refused": str(error)}
    inputs = example_inputs(model, free=FREE_SIZES.get(name, 2))
    if name == "silero_vad":  # the sampling rate chooses a branch
        inputs |= {"sr": np.array(16000), "input": inputs["input"][:1], "state": np.zeros((2, 1, 128), np.float32)}
    wanted = list(run_as_written(model, inputs).values())
    given = [torch.from_numpy(inputs[value]) for value in module.input_names]

    def run(module: torch.nn.Module, given: list[torch.Tensor]) -> list[np.ndarray]:
        with torch.inference_mode():
            found = module(*given)
        return [part.numpy() for part in (found if isinstance(found, tuple) else (found,))]

    started = time.perf_counter()
    found = run(module, given)
    row["torch_s"] = time.perf_counter() - started
    row["difference"] = max(map(_difference, found, wanted))
    if row["difference"] > TOLERANCE:
        double = [value.double() if value.is_floating_point() else value for value in given]
        exact = run(copy.deepcopy(module).double(), double)
        row["module_from_float64"] = max(map(_difference, found, exact))
        row["onnxruntime_from_float64"] = max(map(_difference, wanted, exact))
    row["batch"] = module.batch
    if module.batch == "any":
        many = [torch.cat([value, value.flip(0) * 0.5, value * 2]).to(value.dtype) for value in given]
        together = run(module, many)
        count = len(given[0])
        each = [run(module, [value[place : place + count] for value in many]) for place in range(0, 3 * count, count)]
        alone = [np.concatenate(parts) for parts in zip(*each, strict=True)]
        row["batch_difference"] = max(map(_difference, together, alone))
    return row


@click.group()
def main() -> None:
    """See the docstring of the module."""


@main.command()
@click.argument("places", nargs=-1, type=click.Path(exists=True, path_type=Path))
def agree(places: tuple[Path, ...]) -> None:
    """Compare with onnxruntime: FILEs, or all of a DIR (by default the shared models and traced nets)."""
    rows = json.loads(STORED.read_text(encoding="utf-8"))["rows"] if STORED.exists() else []
    done = {(row["model"], row["exporter"]) for row in rows}
    for place in places or [*sorted((SHARED / "models").glob("*")), WORK / "zoo"]:
        for file in sorted(place.glob("*.onnx")) if place.is_dir() else [place]:
            name, exporter = _named(file)
            if (name, exporter) in done or file.stat().st_size > LARGEST:
                continue
            child = subprocess.run([sys.executable, __file__, "single", str(file)], capture_output=True, text=True)
            lines = child.stdout.splitlines()
            failed = {"model": name, "exporter": exporter, "failed": (child.stderr.splitlines() or ["killed"])[-1]}
            row = json.loads(lines[-1]) if child.returncode == 0 and lines else failed
            print(json.dumps(row), flush=True)
            rows.append(row)
            STORED.write_text(json.dumps({"conditions": conditions(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


@main.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
def single(file: Path) -> None:
    """One graph; the row as JSON."""
    print(json.dumps(one(file)))


@main.command()
@click.option("--batch", default=128)
def train(batch: int) -> None:
    """A step forward and backward, module of the graph over the net itself."""
    import tempfile

    import torch
    import torchvision

    from ortrim.graph import to_torch
    from ortrim.models.cifar_resnet import resnet56
    from ortrim.models.export import export

    torch.set_num_threads(1)
    nets = {"resnet56": (resnet56(), (3, 32, 32), batch), "resnet18": (torchvision.models.resnet18(), (3, 64, 64), 32)}
    rows = []
    for name, (net, shape, count) in nets.items():
        with tempfile.TemporaryDirectory() as folder:
            fused = to_torch(export(net.eval(), Path(folder) / "net.onnx", shape)).train()
        kept = to_torch(_with_batch_norm(net, shape)).train()
        x, target = torch.randn(count, *shape), torch.randint(0, 10, (count,))

        def step(module: torch.nn.Module, x: torch.Tensor = x, target: torch.Tensor = target) -> float:
            started = time.thread_time()
            module.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(module(x), target).backward()
            return time.thread_time() - started

        modules = {"net": net.train(), "module": kept, "folded": fused}
        times: dict[str, list[float]] = {key: [] for key in modules}
        for turn in range(WARM + STEPS):
            for key, module in modules.items():
                seconds = step(module)
                if turn >= WARM:
                    times[key].append(seconds)
        medians = {key: statistics.median(values) for key, values in times.items()}
        row: dict[str, object] = {"net": name, "batch": count, **{f"{key}_s": value for key, value in medians.items()}}
        ratios = [a / b for a, b in zip(times["module"], times["net"], strict=True)]
        rows.append({**row, "ratio": statistics.median(ratios)})
    store("torch_module_training", rows)


def _with_batch_norm(net: object, shape: tuple[int, ...]) -> object:
    """The net as a graph that keeps its BatchNormalization nodes (exporters fold them into the convolutions)."""
    import io

    import onnx
    import torch

    buffer = io.BytesIO()
    torch.onnx.export(
        net,
        (torch.randn(2, *shape),),
        buffer,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
    )
    return onnx.load_from_string(buffer.getvalue())


if __name__ == "__main__":
    main()
