"""The dependency analysis: walk the graph once, then read off the groups."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

import numpy as np
import onnx

from ..errors import ModelError
from .group import ChannelAnalysis, ChannelGroup
from .groups import Labelling, read_groups
from .labels import collapse, varying
from .load import ensure_loaded
from .protos import captured
from .rules import find
from .walk import Walk

__all__ = ["analyze"]


def analyze(model: onnx.ModelProto | str | os.PathLike[str]) -> ChannelAnalysis:
    """Groups of channels that can be removed, and what is frozen.

    Linear in the number of nodes: each is visited once by the rule of its operator. Where channels lie on two axes the
    graph is walked twice, once for each: attention loses channels of every head, or whole heads (groups named
    `.../heads`); a mixer loses channels, or hidden units of its tokens. A path, or a model that did not come from
    `load`, is loaded first; names of tensors are those of the loaded model.

    Raises:
        ModelError: the model cannot be loaded.
    """
    model = ensure_loaded(model)
    first = _labelled(Walk(model))
    labellings, groups = [first], {_places(item.group): item.group for item in first.found}
    if first.walk.crossed:
        second = _labelled(Walk(model, crosswise=True))
        labellings.append(second)
        names = {group.name for group in groups.values()}
        for item in second.found:
            name = f"{item.group.name}/heads" if item.group.name in names else item.group.name
            # As a branch, attention goes by the channels of its heads.
            groups.setdefault(_places(item.group), replace(item.group, name=name, removable=False))
    starts = accumulate((group.size for group in groups.values()), initial=0)
    offsets = {group.name: start for group, start in zip(groups.values(), starts, strict=False)}
    views = tuple(_numbered(labelling, groups, offsets) for labelling in labellings)
    order = {node.name: place for place, node in enumerate(model.graph.node)}
    frozen = [name for name in first.stay if all(name in labelling.stay for labelling in labellings)]
    frozen = tuple(first.stay[name] for name in sorted(frozen, key=order.__getitem__))
    return ChannelAnalysis(tuple(groups.values()), frozen, views, offsets)


Places = tuple[tuple[str, int, bytes], ...]


def _places(group: ChannelGroup) -> Places:
    """Where the units sit: what makes two groups the same."""
    return tuple((slot.tensor, slot.axis, slot.positions.tobytes()) for slot in group.slots)


def _labelled(walk: Walk) -> Labelling:
    _label(walk)
    _resolve(walk)
    return read_groups(walk)


def _numbered(
    labelling: Labelling, groups: Mapping[Places, ChannelGroup], offsets: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Per tensor the global number of the unit at every position, -1 where it stays."""
    walk = labelling.walk
    number_of = np.full(len(walk.atoms) + 1, -1, dtype=np.int64)
    for item in labelling.found:
        number_of[item.roots] = offsets[groups[_places(item.group)].name] + np.arange(item.group.size)
    numbered = {name: number_of[walk.atoms.find(array)] for name, array in walk.arrays.items()}
    return {name: collapse(array, varying(array)) for name, array in numbered.items()}


def _label(walk: Walk) -> None:
    graph = walk.model.graph
    for value in graph.input:
        shape = walk.shape(value.name)
        walk.write(value.name, walk.stays(len(shape or ()), f"is the graph input {value.name!r}"))
    for node in graph.node:
        rule = find(node)
        why = None
        if rule is None:
            why = f"{node.op_type} {node.name!r} has no pruning rule"
        elif captured(node):
            why = f"{node.op_type} {node.name!r} runs a subgraph"
        else:
            why = _unfit(walk, node)
        if why is None:
            if not rule.repeats:
                _settle(walk, node)
            try:
                rule.label(walk, node)
            except (IndexError, ValueError) as error:  # what the checker lets pass: a weight of the wrong rank, say
                raise ModelError(f"{node.op_type} {node.name!r}: its tensors do not fit each other: {error}") from error
        else:
            walk.give_up(node, why)
    for value in graph.output:
        if value.name in walk.arrays:
            walk.freeze(walk.labels(value.name), f"makes the graph output {value.name!r}")


def _unfit(walk: Walk, node: onnx.NodeProto) -> str | None:
    """Why no rule can follow the node's tensors, or None."""
    read = (name for name in node.output if walk.readers(name) or walk.read_outside(name))
    for name in filter(None, (*node.input, *read)):
        shape = walk.shape(name)
        if shape is None:
            return f"the shape of {name!r} at {node.op_type} {node.name!r} is unknown"
        if 0 in shape and not walk.is_constant(name):
            return f"{name!r} at {node.op_type} {node.name!r} has no entries"
    return None


def _settle(walk: Walk, node: onnx.NodeProto) -> None:
    """Channels on an axis whose size is not fixed (heads times batch) stay: few rules can tell positions there."""
    for name in (name for name in node.input if name in walk.arrays):
        free = {axis for axis, size in enumerate(walk.shape(name)) if not isinstance(size, int)}
        labels = walk.labels(name)
        if free.intersection(varying(labels)):
            reason = f"{node.op_type} {node.name!r} reads channels on an axis whose size is not fixed"
            walk.write(name, walk.pin(labels, free, reason))


def _resolve(walk: Walk) -> None:
    """Let every tensor carry units on one axis: a position goes only with its whole row.

    Where labels differ along several axes (a channel axis reshaped into two), the axis with the most units is kept and
    the others are tied. Ties spread to other tensors, hence the loop; each turn leaves fewer units.
    """
    every = (*walk.arrays.values(), *(follower.labels for follower in walk.followers))
    many = [labels for labels in every if sum(size > 1 for size in labels.shape) > 1]
    changed = True
    while changed:
        changed = False
        for labels in many:
            now = walk.atoms.find(labels)
            axes = varying(now)
            if len(axes) < 2:
                continue
            best = max(axes, key=lambda axis: (np.unique(collapse(now, [axis])).size, axis))
            walk.tie(now, [axis for axis in axes if axis != best])
            changed = True
