"""What each group of channels is worth: parameters, multiply-accumulates and time that go with its units."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import onnx

from ...graph import ChannelAnalysis, ChannelGroup, node_macs
from ...runtime import Device, node_times

__all__ = ["GroupShare", "LayerTime", "group_shares", "layer_times"]

# The NCHWc transformer names a Conv after its output, and each name that it makes up may get a number.
_MADE_UP = re.compile(r"(_nchwc)?(_token_\d+)?$")


@dataclass(frozen=True)
class GroupShare:
    """One group, and what goes when all of its units go and everything else stays.

    A layer that makes channels of one group and reads those of another counts in both, so the shares of all groups
    add up to more than one.
    """

    name: str
    size: int
    exact: bool
    removable: bool
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    parameters: int
    macs: int
    macs_share: float
    """Of the whole model's."""
    latency_share: float | None
    """Of the time of all layers; None when it was not measured."""


@dataclass(frozen=True)
class LayerTime:
    """Time of one layer of the graph; what onnxruntime fused with it counts as part of it."""

    layer: str
    op: str
    provider: str
    milliseconds: float
    share: float


def group_shares(
    model: onnx.ModelProto, analysis: ChannelAnalysis, latency: Mapping[str, float] | None = None
) -> tuple[GroupShare, ...]:
    """All groups, in graph order.

    Args:
        latency: layer -> share of the latency, where it was measured.
    """
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    macs = node_macs(model)
    whole = sum(macs.values())
    shares = []
    for group in analysis.groups:
        tensors, layers = _touched(group, dims)
        gone = round(sum(macs.get(layer, 0) * share for layer, share in layers.items()))
        shares.append(
            GroupShare(
                group.name,
                group.size,
                group.exact,
                group.removable,
                group.producers,
                group.consumers,
                round(sum(prod(dims[tensor]) * share for tensor, share in tensors.items())),
                gone,
                gone / whole if whole else 0.0,
                None if latency is None else sum(latency.get(layer, 0.0) * share for layer, share in layers.items()),
            )
        )
    return tuple(shares)


def _touched(group: ChannelGroup, dims: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, float], dict[str, float]]:
    """Tensor -> share of its entries that go, and layer -> share of its work that goes."""
    kept: dict[str, float] = defaultdict(lambda: 1.0)
    node_of = {}
    for slot in group.slots:
        # A layer inside a residual stream loses rows and columns: what stays is the product.
        kept[slot.tensor] *= 1 - sum(map(len, slot.positions)) / dims[slot.tensor][slot.axis]
        node_of[slot.tensor] = slot.node
    tensors = {tensor: 1 - share for tensor, share in kept.items()}
    layers: dict[str, float] = defaultdict(float)
    for tensor, share in tensors.items():
        layers[node_of[tensor]] = max(layers[node_of[tensor]], share)
    return tensors, layers


def layer_times(model: onnx.ModelProto, device: Device) -> tuple[LayerTime, ...]:
    """Where the time goes, slowest layer first.

    Raises:
        DeviceError, ModelError: the model cannot be run on the device.
    """
    own = {node.name for node in model.graph.node}
    layer_of = _layer_of_tensors(model)
    spent: dict[str, float] = defaultdict(float)
    first: dict[str, tuple[str, str]] = {}
    for node in node_times(model, device):
        layer = node.name if node.name in own else layer_of.get(_MADE_UP.sub("", node.name), node.name)
        spent[layer] += node.milliseconds
        first.setdefault(layer, (node.op, node.provider))
    total = sum(spent.values()) or 1.0
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return tuple(LayerTime(layer, *first[layer], ms, ms / total) for layer, ms in ordered)


def _layer_of_tensors(model: onnx.ModelProto) -> dict[str, str]:
    """Tensor -> the layer that it comes from, through what onnxruntime may fuse with the layer.

    A Conv with the BatchNormalization and Relu behind it becomes one node, named after the last tensor.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    work = node_macs(model)
    readers = Counter(name for node in model.graph.node for name in node.input)
    layers: dict[str, str] = {}
    for node in model.graph.node:
        inputs = [name for name in node.input if name and name not in weights]
        follows = node.name not in work and len(inputs) == 1 and readers[inputs[0]] == 1
        layer = layers.get(inputs[0], node.name) if follows else node.name
        layers |= dict.fromkeys(node.output, layer)
    return layers
