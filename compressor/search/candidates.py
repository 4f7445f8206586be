"""The search space of a model on a device: which groups may change, to which widths, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import prod

import numpy as np
import onnx

from ...errors import InputError, NothingToPruneError
from ...graph import ChannelAnalysis, ChannelGroup, Role
from ...runtime import useful_widths
from ..recovery.consumers import weights_of
from ..recovery.importance import Ranking
from .meter import Predicted
from .prediction import SizedLayer
from .space import Choice, Space

__all__ = ["build_space", "prunable_groups", "steps_tolerance", "width_candidates", "width_costs"]

MOST_CANDIDATES = 16
"""Widths of one group that are measured, before those for its neighbours' sake."""
BLOCK = 4
"""Channels of which the fewest make a block in any kernel."""
CHEAPER = 0.04
"""How much less than every wider one a width has to cost, to be worth proposing: less is noise."""


def prunable_groups(analysis: ChannelAnalysis, keep: Sequence[str] = ()) -> tuple[ChannelGroup, ...]:
    """Groups none of whose layers matches a pattern of `keep` (shell wildcards, matched on node names).

    Raises:
        NothingToPruneError: none is left.
        InputError: a pattern that matches no layer of any group.
    """
    layers = {group.name: {slot.node for slot in group.slots} for group in analysis.groups}
    for pattern in keep:
        if not any(fnmatchcase(layer, pattern) for names in layers.values() for layer in names):
            raise InputError(f"--keep {pattern!r} matches no layer that could be pruned; `ortrim inspect` lists them")
    kept = tuple(
        group
        for group in analysis.groups
        if not any(fnmatchcase(layer, pattern) for layer in layers[group.name] for pattern in keep)
    )
    if not kept:
        if analysis.groups:
            raise NothingToPruneError("nothing to prune: --keep leaves alone every layer that could be pruned")
        why = f"; {analysis.frozen[0].layer!r}, for one, {analysis.frozen[0].reason}" if analysis.frozen else ""
        raise NothingToPruneError(f"nothing to prune: no group of channels can be removed{why}")
    return kept


def width_candidates(group: ChannelGroup, layers: Sequence[SizedLayer] = ()) -> tuple[int, ...]:
    """Widths worth measuring: evenly spaced, on multiples of four units where there are enough, ascending.

    Blocked kernels want multiples of at least four channels everywhere; which multiples pay is for the table to say.
    What counts is what a layer reads. Where a concatenation brings it other channels, too, there are widths that make a
    multiple together with these: 16 units beside 15 others keep onnxruntime from its blocked convolutions, 13 do not.

    Args:
        layers: those that the group touches.
    """
    step = 1 if group.size < 8 else 2 if group.size < 16 else BLOCK
    while group.size // step > MOST_CANDIDATES:
        step += BLOCK if step >= BLOCK else step
    widths = {*range(step, group.size + 1, step), group.size}
    for layer in layers:
        each = dict(layer.inputs).get(group.name)
        if each is not None and layer.shape.group == 1:
            others = layer.shape.c_in - each * group.size
            widths |= {width for near in widths if (width := _aligned(near, each, others)) > 0}
    return tuple(sorted(widths | {0} if group.removable else widths))


def _aligned(width: int, each: int, others: int) -> int:
    """The next width down with which a layer reads a multiple; 0 where there is none."""
    return next((near for near in range(width, width - BLOCK, -1) if (each * near + others) % BLOCK == 0), 0)


def width_costs(group: ChannelGroup, prediction: Predicted) -> dict[int, float]:
    """Width -> milliseconds of all layers that the group touches, at its candidates, ascending."""
    widths = width_candidates(group, prediction.layers_by_group[group.name])
    return {width: prediction.group_ms(group.name, width) for width in widths}


def build_space(
    analysis: ChannelAnalysis,
    groups: Sequence[ChannelGroup],
    prediction: Predicted,
    ranking: Ranking,
    target: float,
    progress: Callable[[int, int], None] | None = None,
    model: onnx.ModelProto | None = None,
) -> Space:
    """Offer each group the widths on the device's steps.

    Args:
        target: largest ratio to the original's latency.
        progress: called with groups done and groups in all while layers are measured.
        model: where the weights are, for the norms of the choices; without it they stay unknown.

    Raises:
        NothingToPruneError: no group has a narrower width that is faster.
    """
    weights = {} if model is None else weights_of(model, {slot.tensor for group in groups for slot in group.slots})
    choices = []
    for done, group in enumerate(groups, start=1):
        costs = width_costs(group, prediction)
        widths = useful_widths(costs, steps_tolerance(costs))
        features = _features(group, prediction, ranking)
        choices.append(Choice(group.name, group.size, widths, features, costs, _norms(group, weights)))
        if progress is not None:
            progress(done, len(groups))
    offered = [choice for choice in choices if len(choice.widths) > 1]
    if not offered:
        raise NothingToPruneError("nothing to prune: on this device no narrower width of any group is faster")
    damage = {c.group: ranking.damage[c.group] for c in offered if c.group in ranking.damage}
    return Space(tuple(offered), prediction, target, damage)


def steps_tolerance(costs: Mapping[int, float]) -> float:
    """Relative difference in cost that makes a step.

    A stream that many layers share saves little of what they all cost, yet more than noise: errors of many layers
    average out. The tolerance shrinks with the share that the group can save at all, to a quarter.
    """
    whole = max(costs.values())
    share = (whole - min(costs.values())) / whole if whole > 0 else 1.0
    return CHEAPER * max(0.25, min(1.0, share))


def _features(group: ChannelGroup, prediction: Predicted, ranking: Ranking) -> dict[str, float]:
    """What an agent's state says of the group: AMC's features of its (first) producing layer, and sums over all."""
    layers = prediction.layers_by_group[group.name]
    if not layers:
        return {}
    makers = [layer for layer in layers if layer.node in group.producers] or list(layers)
    first = makers[0].shape
    half = ranking.damage.get(group.name, {}).get(group.size // 2)
    facts = {
        "c_in": float(first.c_in),
        "c_out": float(first.c_out),
        "kernel": float(max(first.kernel, default=1)),
        "stride": float(max(first.strides, default=1)),
        "height": float(first.spatial[0]),
        "width": float(first.spatial[-1]),
        "macs": float(sum(layer.shape.macs for layer in layers)),
        "layers": float(len(layers)),
        "parameters": float(
            sum(s.c_in * s.c_out // s.group * prod(s.kernel) for s in (layer.shape for layer in layers))
        ),
        "latency": prediction.group_ms(group.name, group.size) / prediction.full_ms if prediction.full_ms else 0.0,
    }
    return facts if half is None else {**facts, "damage": float(half)}


def _norms(group: ChannelGroup, weights: Mapping[str, np.ndarray]) -> tuple[float, ...]:
    """Sum of |weights| a unit, averaged over the matrices and kernels that make it."""
    sums = []
    for slot in group.slots:
        weight = weights.get(slot.tensor)
        if slot.role is Role.PRODUCER and weight is not None and weight.ndim >= 2:
            entries = np.moveaxis(np.abs(weight), slot.axis, 0).reshape(weight.shape[slot.axis], -1).sum(axis=1)
            sums.append([float(entries[list(at)].mean()) for at in slot.positions])
    return tuple(np.mean(sums, axis=0).tolist()) if sums else ()
