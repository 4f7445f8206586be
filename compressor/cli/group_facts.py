"""What each group of channels is worth: parameters, multiply-accumulates and time that go with its units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import onnx

from ...graph import ChannelAnalysis, ChannelGroup, node_macs

__all__ = ["GroupShare", "group_shares"]


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
