"""The order in which a group's units go, by several measures, and what each width costs after refitting.

Every method scores the units of a group by what its producers write or its consumers read, and the least important go
first. `refit`, the default, is greedy: it takes out the unit whose loss the refitted consumers feel least, refits them,
and looks again (see `elimination`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import onnx

from ...errors import PlanError
from ...graph.group import ChannelAnalysis, ChannelGroup, Role, Slot
from ..search.space import Widths
from .activations import Feeds
from .consumers import weights_of
from .elimination import Elimination
from .moments import Moments
from .refit import RIDGE
from .taylor import first_order_effects

__all__ = ["METHODS", "Ranking", "rank"]

METHODS = ("refit", "taylor", "activation", "l1", "l2", "bn", "random")
"""The default first."""


@dataclass(frozen=True)
class Ranking:
    """Orders of removal, and what they cost."""

    order: Mapping[str, tuple[int, ...]] = field(repr=False)
    """group -> its units, in the order in which they go."""
    damage: Mapping[str, Mapping[int, float]] = field(default_factory=dict, repr=False)
    """group -> units kept -> error of the refitted consumers' outputs, relative to the variance of the sums that they
    flow into, added up over the consumers. Empty without moments; groups without a consumer that can be refitted are
    left out."""

    def removal(self, widths: Widths) -> dict[str, tuple[int, ...]]:
        """The units that go when so many are kept; groups that keep all are left out.

        Raises:
            PlanError: a group that is not there, or a width outside 0..size.
        """
        removal = {}
        for name, width in widths.items():
            order = self.order.get(name)
            if order is None:
                raise PlanError(f"the model has no group {name!r}; `ortrim inspect` lists them")
            if not 0 <= width <= len(order):
                raise PlanError(f"group {name!r} has {len(order)} units, so it cannot keep {width}")
            if width < len(order):
                removal[name] = order[: len(order) - width]
        return removal


def rank(
    model: onnx.ModelProto,
    analysis: ChannelAnalysis,
    method: str = "refit",
    moments: Moments | None = None,
    *,
    images: Feeds | None = None,
    ridge: float = RIDGE,
    seed: int = 0,
) -> Ranking:
    """Order the units of every group.

    Args:
        method: `refit` (error after refitting), `taylor` (change of the outputs to first order), `activation` (mean
            square of what the consumers read), `l1`, `l2` (mean norm of the weights that make and read the unit), `bn`
            (BatchNormalization scale; `l2` for groups without one) or `random`.
        moments: needed by `refit` and `activation`; with them every method's damage is worked out.
        images: needed by `taylor`.
        seed: of `random`, and of what `taylor` draws.

    Raises:
        PlanError: an unknown method, or one without what it needs.
        ModelError: `taylor` needs gradients, and torch lacks an operator of the model.
    """
    if method not in METHODS:
        raise PlanError(f"unknown importance {method!r}; there are {', '.join(METHODS)}")
    if (moments is None and method in ("refit", "activation")) or (images is None and method == "taylor"):
        raise PlanError(f"importance {method!r} needs calibration images; without them use l2")
    weights = weights_of(model, {slot.tensor for group in analysis.groups for slot in group.slots})
    score = _SCORES.get(method)
    effects = {}
    if method == "taylor" and images is not None:
        effects = first_order_effects(model, analysis, images, seed=seed)
    context = _Context(weights, _bn_scales(model), moments, effects, np.random.default_rng(seed))
    order: dict[str, tuple[int, ...]] = {}
    damage: dict[str, dict[int, float]] = {}
    for group in analysis.groups:
        if score is not None:
            order[group.name] = _ascending(score(group, context))
        if moments is not None:
            found = _eliminate(group, weights, moments, ridge, order.get(group.name))
            if found is not None:
                order[group.name], damage[group.name] = found
        if group.name not in order:
            order[group.name] = _ascending(_l2(group, context))
    return Ranking(order, damage)


def _ascending(scores: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argsort(scores, kind="stable").tolist())


def _eliminate(
    group: ChannelGroup,
    weights: Mapping[str, np.ndarray],
    moments: Moments,
    ridge: float,
    order: Sequence[int] | None,
) -> tuple[tuple[int, ...], dict[int, float]] | None:
    """Takes out all units, in `order` or greedily; the order, and the damage at each width.

    None where no consumer of the group has moments.
    """
    positions: dict[str, list[tuple[int, ...]]] = {}
    by_weight = {consumer.weight: node for node, consumer in moments.consumers.items()}
    for slot in group.slots:
        node = by_weight.get(slot.tensor)
        if node is None or slot.role is not Role.CONSUMER or slot.axis != moments.consumers[node].channel_axis:
            continue
        known = positions.get(node, [()] * group.size)
        positions[node] = [(*a, *b) for a, b in zip(known, slot.positions, strict=True)]
    runs = []
    for node, units in positions.items():
        consumer, factor, spread = moments.consumers[node], moments.tails[node].scale, moments.spread[node]
        if spread > 0:
            scale = (np.ones(consumer.outputs) if factor is None else factor) / sqrt(spread)
            weight = weights[consumer.weight]
            runs.append(Elimination(consumer, weight, moments[node], units, scale=scale, ridge=ridge))
    if not runs:
        return None
    left = list(range(group.size))
    gone: list[int] = []
    damage = {group.size: 0.0}
    while left:
        unit = _cheapest(runs, left) if order is None else order[len(gone)]
        left.remove(unit)
        gone.append(unit)
        damage[len(left)] = damage[len(left) + 1] + sum(run.remove(unit) for run in runs)
    return tuple(gone), damage


def _cheapest(runs: Sequence[Elimination], left: Sequence[int]) -> int:
    return left[int(np.argmin(np.sum([run.costs(left) for run in runs], axis=0)))]


@dataclass(frozen=True)
class _Context:
    weights: Mapping[str, np.ndarray]
    bn_scales: frozenset[str]
    moments: Moments | None
    effects: Mapping[str, np.ndarray]
    rng: np.random.Generator


def _bn_scales(model: onnx.ModelProto) -> frozenset[str]:
    return frozenset(node.input[1] for node in model.graph.node if node.op_type == "BatchNormalization")


def _per_unit(slot: Slot, entries: np.ndarray) -> np.ndarray:
    """Sums of `entries`, one for each index of the slot's axis, over the positions of each unit, relative to their
    mean: slots of different tensors become comparable."""
    sums = np.array([entries[list(at)].sum() for at in slot.positions])
    return sums / max(sums.mean(), np.finfo(np.float32).tiny)


def _along(array: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.float64)


def _norm(group: ChannelGroup, context: _Context, power: int) -> np.ndarray:
    scores = np.zeros(group.size)
    for slot in group.slots:
        weight = context.weights.get(slot.tensor)
        if slot.role is Role.FOLLOWER or weight is None or weight.ndim < 2:
            continue
        scores += _per_unit(slot, (np.abs(_along(weight, slot.axis)) ** power).sum(axis=1)) ** (1 / power)
    return scores


def _l1(group: ChannelGroup, context: _Context) -> np.ndarray:
    return _norm(group, context, 1)


def _l2(group: ChannelGroup, context: _Context) -> np.ndarray:
    return _norm(group, context, 2)


def _bn(group: ChannelGroup, context: _Context) -> np.ndarray:
    slots = [slot for slot in group.slots if slot.tensor in context.bn_scales]
    if not slots:
        return _l2(group, context)
    return np.sum([_per_unit(slot, np.abs(context.weights[slot.tensor])) for slot in slots], axis=0)


def _random(group: ChannelGroup, context: _Context) -> np.ndarray:
    return context.rng.random(group.size)


def _taylor(group: ChannelGroup, context: _Context) -> np.ndarray:
    """`l2` for groups that no weight with a gradient reads or makes."""
    found = context.effects.get(group.name)
    return _l2(group, context) if found is None else found


def _activation(group: ChannelGroup, context: _Context) -> np.ndarray:
    """Mean square of what the consumers read; `l2` for groups that no consumer with moments reads."""
    scores = np.zeros(group.size)
    moments = context.moments
    if moments is not None:
        by_weight = {consumer.weight: node for node, consumer in moments.consumers.items()}
        for slot in group.slots:
            node = by_weight.get(slot.tensor)
            if node is None or slot.role is not Role.CONSUMER:
                continue
            consumer = moments.consumers[node]
            squares = np.diagonal(moments[node].uncentred, axis1=1, axis2=2)
            sums = [np.take_along_axis(squares, consumer.columns_at(at), 1).sum() for at in slot.positions]
            scores += np.array(sums) / max(float(np.mean(sums)), np.finfo(np.float32).tiny)
    return scores if scores.any() else _l2(group, context)


_SCORES: Mapping[str, Callable[[ChannelGroup, _Context], np.ndarray]] = {
    "taylor": _taylor,
    "activation": _activation,
    "l1": _l1,
    "l2": _l2,
    "bn": _bn,
    "random": _random,
}
