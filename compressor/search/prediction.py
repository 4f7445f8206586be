"""The latency of a plan before it is measured: the table's figures for every layer at the plan's widths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from operator import itemgetter
from typing import Protocol

from ...errors import NothingToPruneError
from ...graph import ChannelAnalysis, Role
from ...runtime import LayerShape
from .space import Widths

__all__ = ["Prediction", "SizedLayer", "Table", "layers_of"]


class Table(Protocol):
    """Milliseconds of a layer (see `ortrim.runtime.LatencyTable`)."""

    def milliseconds(self, shape: LayerShape) -> float: ...


@dataclass(frozen=True)
class SizedLayer:
    """One layer, and which groups its channels belong to."""

    node: str
    shape: LayerShape
    inputs: tuple[tuple[str, int], ...]
    """(group, input channels a unit) of the groups that it reads."""
    outputs: tuple[tuple[str, int], ...]
    """(group, output channels a unit) of the groups that it makes, or passes on (depthwise)."""
    crossing: frozenset[frozenset[str]] = frozenset()
    """Pairs of groups that share channels (`ChannelAnalysis.crossing`)."""

    def narrowed(self, widths: Widths, sizes: Mapping[str, int]) -> LayerShape | None:
        """Its shape under a plan; None when it is gone."""
        c_in = self.shape.c_in - self._lost(self.inputs, widths, sizes)
        c_out = self.shape.c_out - self._lost(self.outputs, widths, sizes)
        if c_in < 1 or c_out < 1:
            return None
        if self.depthwise:
            return replace(self.shape, c_in=c_in, c_out=c_out, group=c_in)
        return replace(self.shape, c_in=c_in, c_out=c_out)

    def _lost(self, members: Sequence[tuple[str, int]], widths: Widths, sizes: Mapping[str, int]) -> int:
        """Channels that go. What a lost head and a lost channel of every head have in common counts once."""
        lost = {group: each * (sizes[group] - widths[group]) for group, each in members}
        shared = (
            lost[a] * lost[b] // (each * sizes[a])
            for (a, each), (b, _) in combinations(members, 2)
            if frozenset((a, b)) in self.crossing
        )
        return sum(lost.values()) - sum(shared)

    @property
    def depthwise(self) -> bool:
        return self.shape.group == self.shape.c_in > 1


def layers_of(analysis: ChannelAnalysis, shapes: Mapping[str, LayerShape]) -> tuple[SizedLayer, ...]:
    """The layers of a model (`ortrim.runtime.layer_shapes`) with the groups that touch them, in graph order."""
    reads: dict[str, dict[str, int]] = defaultdict(dict)
    makes: dict[str, dict[str, int]] = defaultdict(dict)
    for group in analysis.groups:
        for slot in group.slots:
            shape = shapes.get(slot.node)
            if shape is None:
                continue
            each = len(slot.positions[0])
            if slot.role is Role.CONSUMER:
                # A grouped convolution's weight lists the channels of one group; every group loses as many.
                times = shape.group if shape.op == "Conv" else 1
                reads[slot.node][group.name] = each * times
            elif slot.role is Role.PRODUCER:
                times = shape.group if shape.op == "ConvTranspose" and slot.axis == 1 else 1
                makes[slot.node][group.name] = max(each * times, makes[slot.node].get(group.name, 0))
            elif shape.group == shape.c_in > 1:  # depthwise: a follower on both sides
                makes[slot.node][group.name] = each
                reads[slot.node][group.name] = each * shape.c_in // shape.c_out
    return tuple(
        SizedLayer(node, shape, tuple(reads[node].items()), tuple(makes[node].items()), analysis.crossing)
        for node, shape in shapes.items()
    )


_Cell = tuple[tuple[SizedLayer, ...], Callable[[Widths], object], dict[object, float]]
"""Layers that the same groups touch, what picks those groups' widths out of a plan, and widths -> milliseconds."""


def _cells(layers: Sequence[SizedLayer]) -> tuple[_Cell, ...]:
    found: dict[frozenset[str], list[SizedLayer]] = defaultdict(list)
    for layer in layers:
        found[frozenset(name for name, _ in (*layer.inputs, *layer.outputs))].append(layer)
    return tuple((tuple(of), itemgetter(*sorted(names)) if names else _no_width, {}) for names, of in found.items())


def _no_width(plan: Widths) -> tuple[()]:
    """Of layers that no group touches."""
    return ()


class Prediction:
    """Latency of plans as a share of the original's (a `LatencyModel`).

    A layer narrowed on both sides is read off two scans, one over its inputs and one over its outputs, each with the
    other side whole: T(i, o) = T(i, O) T(I, o) / T(I, O). That keeps the figures to be measured linear in the widths.
    """

    def __init__(self, analysis: ChannelAnalysis, shapes: Mapping[str, LayerShape], table: Table) -> None:
        """
        Raises:
            NothingToPruneError: no layer whose latency could fall.
        """
        self.layers = layers_of(analysis, shapes)
        self.sizes = {group.name: group.size for group in analysis.groups}
        self._table = table
        self.reference_ms: float | None = None
        """What all layers of the original take, where the model is what an earlier step has made of it."""
        self._cells = _cells(self.layers)
        if not self.layers:
            raise NothingToPruneError(
                "the model has no convolution or matrix product that the latency table can measure"
            )

    @cached_property
    def full_ms(self) -> float:
        """What the table gives for all layers of the original, in milliseconds."""
        return sum(self._table.milliseconds(layer.shape) for layer in self.layers)

    @cached_property
    def layers_by_group(self) -> Mapping[str, tuple[SizedLayer, ...]]:
        """The layers that each group touches."""
        touched: dict[str, list[SizedLayer]] = {name: [] for name in self.sizes}
        for layer in self.layers:
            for name in dict.fromkeys(name for name, _ in (*layer.inputs, *layer.outputs)):
                touched[name].append(layer)
        return {name: tuple(layers) for name, layers in touched.items()}

    def relate(self, original: Prediction, ratios: Sequence[float]) -> None:
        """Make this a share of the original's latency, where the model is another: later in steps, or converted.

        Args:
            original: of the net that latency is compared with, in the same precision.
            ratios: the one device's: what its layers take in this precision, measured, as a share of the original as
                given. What the table leaves out (sums, rounding between layers) is in it.
        """
        (ratio,) = ratios
        self.reference_ms = original.full_ms / ratio

    def layer_ms(self, layer: SizedLayer, widths: Widths) -> float:
        """Milliseconds of one layer under a plan (`widths` names every group)."""
        narrowed = layer.narrowed(widths, self.sizes)
        if narrowed is None:
            return 0.0
        full = layer.shape
        if layer.depthwise or narrowed.c_in == full.c_in or narrowed.c_out == full.c_out:
            return self._table.milliseconds(narrowed)
        whole = self._table.milliseconds(full)
        inputs = self._table.milliseconds(replace(narrowed, c_out=full.c_out))
        outputs = self._table.milliseconds(replace(narrowed, c_in=full.c_in))
        return inputs * outputs / whole if whole > 0 else 0.0

    def group_ms(self, name: str, width: int) -> float:
        """Milliseconds of all layers that a group touches when it alone keeps `width` units."""
        widths = {**self.sizes, name: width}
        return sum(self.layer_ms(layer, widths) for layer in self.layers_by_group[name])

    def ratio(self, widths: Widths) -> float:
        """Predicted latency as a share of the original's."""
        plan = {**self.sizes, **widths}
        whole = self.full_ms if self.reference_ms is None else self.reference_ms
        if whole <= 0:
            return 1.0
        # A search asks about tens of thousands of plans, whose layers have few widths each.
        costs = 0.0
        for layers, widths_in, known in self._cells:
            at = widths_in(plan)
            cost = known.get(at)
            if cost is None:
                cost = known[at] = sum(self.layer_ms(layer, plan) for layer in layers)
            costs += cost
        return costs / whole
