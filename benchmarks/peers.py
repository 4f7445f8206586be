"""Torch-Pruning and onnxsim at their best: `python benchmarks/peers.py SLIM.onnx ... [--net NAME]`, of CIFAR-10.

Every setting of each peer cuts the net (`pip install torch-pruning onnxsim`), with no labels and no training after it;
all cuts are timed against the original, and the slim files given beside them. Every cut is scored on the first test
images, and those that come out best at each latency on all of them. So the table shows the setting that kept the
highest accuracy **on the test images**: picked in the peers' favour, while ortrim's file was chosen without them.

Torch-Pruning works on modules, so the ONNX file is rebuilt as one: convolutions that BatchNormalization is folded into,
identity shortcuts that drop every second pixel and pad channels on both sides. It is told to spare the residual streams
(`ignored_layers`), since it would couple channel i to channel i across that padding, which shifts them.
"""

from __future__ import annotations

import copy
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxsim
import torch
import torch_pruning as tp
from cifar import AKAMASTER
from common import SHARED, WORK, need, store
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from ortrim.compressor.data import InputSpec, Preprocessing, load_data
from ortrim.compressor.score import evaluate
from ortrim.runtime import Device, compare_many

MEAN, STD = (np.asarray(AKAMASTER[start : start + 3], np.float32).reshape(3, 1, 1) for start in (1, 5))
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75)
"""Of the channels to go."""
ROUNDING = (None, 8, 16)
TIMED = 16
"""Nets timed together: interleaved, each with the original."""
LATENCIES = (0.9, 0.8, 0.7, 0.6, 0.5)
TOOLS = ("ortrim", "Torch-Pruning", "onnxsim")
FIRST, BEST = 1000, 3
"""Test images that every cut is scored on, and cuts for each tool and latency that are scored on all."""


class Block(nn.Module):
    """Two convolutions and a shortcut without weights."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.stride = first.stride[0]
        self.padding = (second.out_channels - first.in_channels) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = x
        if self.stride > 1:
            short = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(self.second(functional.relu(self.first(x))) + short)


class ResNet(nn.Module):
    """A CIFAR-10 ResNet with the weights of an ONNX file, checked against that file by `same`."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        nodes = [node for node in model.graph.node if node.op_type == "Conv"]
        stem, *inner = (convolution(node, weights) for node in nodes)
        self.stem = stem
        self.blocks = nn.Sequential(*(Block(*pair) for pair in zip(inner[::2], inner[1::2], strict=True)))
        (last,) = (node for node in model.graph.node if node.op_type == "Gemm")
        self.linear = nn.Linear(*weights[last.input[1]].shape[::-1])
        fill(self.linear, weights[last.input[1]], weights[last.input[2]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.blocks(functional.relu(self.stem(x))).mean((2, 3)))

    @property
    def streams(self) -> list[nn.Module]:
        """Layers that write to a residual stream, or are the classifier."""
        return [self.stem, *(block.second for block in self.blocks), self.linear]


def convolution(node: onnx.NodeProto, weights: dict[str, np.ndarray]) -> nn.Conv2d:
    """A module of a Conv node."""
    weight, bias = weights[node.input[1]], weights[node.input[2]]
    (stride,) = {a.ints[0] for a in node.attribute if a.name == "strides"} or {1}
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, weight.shape[2] // 2)
    fill(layer, weight, bias)
    return layer


def fill(layer: nn.Conv2d | nn.Linear, weight: np.ndarray, bias: np.ndarray) -> None:
    """Set the layer's weights."""
    layer.weight.data, layer.bias.data = torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy())


def same(module: nn.Module, model: Path, images: torch.Tensor) -> None:
    """Stop if the module does not compute what the file does."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    wanted = np.concatenate([session.run(None, {session.get_inputs()[0].name: row[None].numpy()})[0] for row in images])
    np.testing.assert_allclose(module(images).detach().numpy(), wanted, rtol=1e-3, atol=1e-3)


def torch_pruned(net: ResNet, images: torch.Tensor) -> Iterator[tuple[str, bytes]]:
    """Each setting of Torch-Pruning with what it makes of the net, as ONNX."""
    labels = net(images).argmax(1)  # without labels: what the net itself says
    importances = {"L2": tp.importance.GroupMagnitudeImportance(p=2), "Taylor": tp.importance.GroupTaylorImportance()}
    for (name, importance), globally, rounding, share in itertools.product(
        importances.items(), (False, True), ROUNDING, SHARES
    ):
        cut = copy.deepcopy(net)
        pruner = tp.pruner.BasePruner(
            cut,
            images[:1],
            importance=importance,
            global_pruning=globally,
            pruning_ratio=share,
            max_pruning_ratio=0.95,
            round_to=rounding,
            ignored_layers=cut.streams,
        )
        if name == "Taylor":
            functional.cross_entropy(cut(images), labels).backward()
        pruner.step()
        written = io.BytesIO()
        torch.onnx.export(cut.eval(), (images[:1],), written, dynamo=False, input_names=["input"])
        where = "global" if globally else "uniform"
        yield f"{name}, {where}, {share:g}, rounded to {rounding or 1}", written.getvalue()


def onnxsim_pruned(model: onnx.ModelProto, images: torch.Tensor) -> Iterator[tuple[str, bytes]]:
    """Each setting of onnxsim."""
    name = model.graph.input[0].name
    data = [{name: row[None].numpy()} for row in images[:64]]
    for share in SHARES:
        plain = onnxsim.pruning.apply_structured_pruning(copy.deepcopy(model), sparsity=share)
        yield f"L2, {share:g}", plain.SerializeToString()
        wanda = onnxsim.pruning.apply_structured_wanda_pruning(copy.deepcopy(model), data, sparsity=share)
        yield f"Wanda, {share:g}", wanda.SerializeToString()


def timed(original: Path, files: list[Path]) -> list[float]:
    """Latency ratios."""
    ratios = []
    for start in range(0, len(files), TIMED):
        some = files[start : start + TIMED]
        found = compare_many(original, some, Device.parse("cpu:threads=1"), seconds=2.0)
        ratios += [ratio.value for ratio in found]
    return ratios


def fitting(rows: list[dict[str, Any]], tool: str, latency: float, score: str) -> list[dict[str, Any]]:
    """The tool's cuts that are fast enough, best first."""
    fast = [row for row in rows if row["tool"] == tool and row["ratio"] <= latency and score in row]
    return sorted(fast, key=lambda row: -row[score])


@click.command()
@click.argument("slims", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--net", default="akamaster_resnet56", help="the original, of models/cifar10")
@click.option("--cifar", default=str(WORK / "cifar"), help="folder with train.npz and test.npz")
def main(slims: tuple[Path, ...], net: str, cifar: str) -> None:
    original = need(SHARED / "models" / "cifar10" / f"{net}.onnx")
    model = onnx.load(original)
    preprocessing = Preprocessing.parse(mean=tuple(MEAN.ravel()), std=tuple(STD.ravel()))
    test = load_data(need(Path(cifar) / "test.npz"), InputSpec.from_model(model), preprocessing)
    cores = Device("cpu", threads=os.cpu_count())
    with np.load(need(Path(cifar) / "train.npz")) as archive:
        raw = archive["images"][:512].transpose(0, 3, 1, 2).astype(np.float32) / 255
    images = torch.from_numpy((raw - MEAN) / STD)
    module = ResNet(model).eval()
    same(module, original, images[:8])

    folder = WORK / "peers" / net
    folder.mkdir(parents=True, exist_ok=True)
    made = [("ortrim", slim.parent.name, slim) for slim in slims]
    for peer, settings in (
        ("Torch-Pruning", torch_pruned(module, images)),
        ("onnxsim", onnxsim_pruned(model, images)),
    ):
        for number, (setting, content) in enumerate(settings):
            file = folder / f"{peer}_{number}.onnx"
            file.write_bytes(content)
            made.append((peer, setting, file))
    rows: list[dict[str, Any]] = []
    for (peer, setting, file), ratio in zip(made, timed(original, [file for _, _, file in made]), strict=True):
        row = {"tool": peer, "setting": setting, "ratio": ratio, "file": str(file)}
        if ratio < 1:
            row["first"] = evaluate(file, test.subset(np.arange(FIRST)), device=cores).score.value
        rows.append(row)
    for tool, latency in itertools.product(TOOLS, LATENCIES):
        for row in fitting(rows, tool, latency, "first")[:BEST]:
            if "test" not in row:
                row["test"] = evaluate(Path(row["file"]), test, device=cores).score.value
    store(f"peers_{net}", [{key: value for key, value in row.items() if key != "file"} for row in rows])
    for tool, latency in itertools.product(TOOLS, LATENCIES):
        for best in fitting(rows, tool, latency, "test")[:1]:
            print(f"{tool} at {latency:g}x: {best['test']:.4f} at {best['ratio']:.3f} ({best['setting']})")


if __name__ == "__main__":
    main()
