"""Where the time of a model goes and why: its own layers with what onnxruntime made of each."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..errors import DeviceError, OrtrimError
from .attribution import attribute, main_node
from .device import Device
from .inputs import Shapes
from .kernels import BLOCKED, PLAIN, Kernel, kernels_of
from .node_profile import NodeTime, profiled
from .service import remote
from .session import Model, read_model

__all__ = ["Explanation", "LayerTime", "Reorder", "explain"]


@dataclass(frozen=True)
class LayerTime:
    """One layer of the graph, with all that onnxruntime computes along with it."""

    layer: str
    """Name of its node; of a kernel that onnxruntime put in (a Cast, a copy between devices), the kernel's."""
    op: str
    milliseconds: float
    share: float
    """Of the time of all layers and reorders."""
    provider: str
    kernel: str
    """Operator that ran, with its domain where it is not ONNX's: `com.microsoft.FusedConv`."""
    fused: tuple[str, ...] = ()
    """Names of the other nodes that are computed along with it."""
    layout: str = ""
    """Of a convolution: `blocked` (NCHWc) or `plain`."""
    reason: str = ""
    """Why a convolution did not run blocked; empty where ortrim knows no reason."""


@dataclass(frozen=True)
class Reorder:
    """A change between the plain and the blocked layout."""

    name: str
    op: str
    """ReorderInput makes blocked of plain, ReorderOutput plain of blocked."""
    milliseconds: float
    share: float
    maker: str
    """Layer whose output it is, or the graph's input; empty where only the profile is known."""
    readers: tuple[str, ...]
    """Layers that read it, or the graph's output; empty where only the profile is known."""


@dataclass(frozen=True)
class Explanation:
    """A model on a device, layer by layer. Times are medians of onnxruntime's profile, which adds to each kernel."""

    device: str
    provider: str
    """The one that was asked for."""
    milliseconds: float
    """Of all kernels: more than the latency, since profiling adds to each."""
    layers: tuple[LayerTime, ...]
    """In the order of execution."""
    reorders: tuple[Reorder, ...]

    @property
    def reorder_ms(self) -> float:
        """What all changes of layout take."""
        return sum(reorder.milliseconds for reorder in self.reorders)

    @property
    def elsewhere(self) -> tuple[LayerTime, ...]:
        """Layers that another provider ran than the one asked for."""
        return tuple(layer for layer in self.layers if layer.provider != self.provider)

    def convolutions(self, layout: str) -> tuple[LayerTime, ...]:
        """Convolutions that ran in that layout."""
        return tuple(layer for layer in self.layers if layer.layout == layout)

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> Explanation:
        """The explanation whose fields, and those of its rows, were plain values (`dataclasses.asdict`)."""

        def rows(kind: type[Any], name: str) -> tuple[Any, ...]:
            return tuple(
                kind(**{key: tuple(item) if isinstance(item, list) else item for key, item in row.items()})
                for row in fields[name]
            )

        return Explanation(**{**fields, "layers": rows(LayerTime, "layers"), "reorders": rows(Reorder, "reorders")})

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold, with sums."""
        return {
            "device": self.device,
            "provider": self.provider,
            "milliseconds": self.milliseconds,
            "layers": [asdict(layer) for layer in self.layers],
            "reorders": [asdict(reorder) for reorder in self.reorders],
            "reorder_ms": self.reorder_ms,
            "reorder_share": self.reorder_ms / self.milliseconds if self.milliseconds else 0.0,
            "convolutions": {layout: len(self.convolutions(layout)) for layout in (BLOCKED, PLAIN)},
            "providers": dict(Counter(layer.provider for layer in self.layers).most_common()),
        }


def explain(
    model: Model,
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Shapes | None = None,
    runs: int = 20,
    seed: int = 0,
) -> Explanation:
    """Time, provider and kernel of every layer of `model`; arguments and errors as of `measure`.

    The kernels are read off the graph that onnxruntime writes after optimising. Where a provider compiles nodes
    (TensorRT) it cannot be written, and the profile alone has to do: fusions are then told by names only.
    """
    if device.is_remote:
        fields = remote.node_rows("explain", model, device, inputs=inputs, shapes=shapes, runs=runs, seed=seed)
        return Explanation.from_fields({**fields, "device": f"{fields['device']} at {device}"})
    original = read_model(model)
    renamed = _named(original)
    graph, source = (original, model) if renamed is None else (renamed, renamed)

    def times(optimized_path: Path | None) -> tuple[NodeTime, ...]:
        return profiled(
            source, device, inputs=inputs, shapes=shapes, runs=runs, seed=seed, optimized_path=optimized_path
        )

    with tempfile.TemporaryDirectory(prefix="ortrim-explain-") as folder:
        path = Path(folder) / "optimized.onnx"
        try:
            nodes = times(path)
            kernels = kernels_of(onnx.load(path, load_external_data=False), device)
        except OrtrimError:
            if device.name == "cpu":
                raise
            nodes = times(None)
            kernels = tuple(Kernel(node.name, node.op, "", (), ()) for node in nodes)
    # Nodes inside If and Loop are part of the time of those.
    own = {kernel.name for kernel in kernels}
    nodes = tuple(node for node in nodes if node.name in own)
    if not nodes:
        raise DeviceError(f"device {device}: the profile of the model names no nodes")
    return _explanation(graph.graph, kernels, nodes, device)


def _named(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy in which every node has a name of its own, that of its first output; None where that is so already."""
    count = Counter(node.name for node in model.graph.node)
    if all(name and times == 1 for name, times in count.items()):
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    taken = {name for name, times in count.items() if times == 1}
    for node in copy.graph.node:
        if not node.name or count[node.name] > 1:
            node.name = next((name for name in node.output if name), node.op_type)
            while node.name in taken:
                node.name += "'"
            taken.add(node.name)
    return copy


def _explanation(
    graph: onnx.GraphProto, kernels: Sequence[Kernel], nodes: Sequence[NodeTime], device: Device
) -> Explanation:
    known = {kernel.name: kernel for kernel in kernels}
    parts = attribute(graph, kernels)
    layer_of = {name: main_node(known[name], own).name if own else name for name, own in parts.items()}
    total = sum(node.milliseconds for node in nodes) or 1.0
    gathered: dict[str, list[NodeTime]] = defaultdict(list)
    for node in nodes:
        if not known[node.name].is_reorder:
            gathered[layer_of[node.name]].append(node)
    return Explanation(
        str(device),
        device.provider,
        sum(node.milliseconds for node in nodes),
        tuple(_layer(name, own, known, parts, total) for name, own in gathered.items()),
        _reorders(kernels, layer_of, {node.name: node.milliseconds for node in nodes}, total),
    )


def _layer(
    name: str,
    times: Sequence[NodeTime],
    known: Mapping[str, Kernel],
    parts: Mapping[str, Sequence[onnx.NodeProto]],
    total: float,
) -> LayerTime:
    """A layer of the kernels that belong to it, the slowest of which says how it ran."""
    slowest = max(times, key=lambda node: node.milliseconds)
    kernel = known[slowest.name]
    own = [node for time in times for node in parts[time.name]]
    milliseconds = sum(node.milliseconds for node in times)
    return LayerTime(
        name,
        next((node.op_type for node in own if node.name == name), kernel.op),
        milliseconds,
        milliseconds / total,
        slowest.provider,
        f"{kernel.domain}.{kernel.op}" if kernel.domain not in ("", "ai.onnx") else kernel.op,
        tuple(node.name for node in own if node.name != name),
        kernel.layout,
        kernel.reason,
    )


def _reorders(
    kernels: Sequence[Kernel], layer_of: Mapping[str, str], taken: Mapping[str, float], total: float
) -> tuple[Reorder, ...]:
    maker = {name: layer_of.get(kernel.name, kernel.name) for kernel in kernels for name in kernel.outputs}
    readers: dict[str, list[str]] = defaultdict(list)
    for kernel in kernels:
        for name in kernel.inputs:
            readers[name].append(layer_of.get(kernel.name, kernel.name))
    return tuple(
        Reorder(
            kernel.name,
            kernel.op,
            taken[kernel.name],
            taken[kernel.name] / total,
            next((maker.get(name, name) for name in kernel.inputs), ""),
            tuple(dict.fromkeys(reader for name in kernel.outputs for reader in readers[name])) or kernel.outputs,
        )
        for kernel in kernels
        if kernel.is_reorder and kernel.name in taken
    )
