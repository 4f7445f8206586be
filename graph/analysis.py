"""The dependency analysis: walk the graph once, then read off the groups."""

from __future__ import annotations

import os
from collections import defaultdict

import numpy as np
import onnx

from .branches import Branches
from .group import ChannelAnalysis, ChannelGroup, Frozen, Role, Slot
from .labels import collapse, varying
from .load import ensure_loaded
from .protos import captured
from .rules import find
from .walk import Use, Walk

__all__ = ["analyze"]


def analyze(model: onnx.ModelProto | str | os.PathLike[str]) -> ChannelAnalysis:
    """Groups of channels that can be removed, and what is frozen.

    Linear in the number of nodes: each is visited once by the rule of its operator. A path, or a model that did not
    come from `load`, is loaded first; names of tensors are those of the loaded model.

    Raises:
        ModelError: the model cannot be loaded.
    """
    model = ensure_loaded(model)
    walk = Walk(model)
    _label(walk)
    _resolve(walk)
    return _groups(walk)


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
            for name in (*node.input, *node.output):
                if name and walk.shape(name) is None:
                    why = f"the shape of {name!r} at {node.op_type} {node.name!r} is unknown"
                    break
        if why is None:
            rule.label(walk, node)
        else:
            _freeze_node(walk, node, why)
    for value in graph.output:
        if value.name in walk.arrays:
            walk.freeze(walk.labels(value.name), f"makes the graph output {value.name!r}")


def _freeze_node(walk: Walk, node: onnx.NodeProto, reason: str) -> None:
    for name in {*node.input} | captured(node):
        if name in walk.arrays:
            walk.freeze(walk.labels(name), reason)
    for name in filter(None, node.output):
        walk.write(name, walk.stays(len(walk.shape(name) or ()), reason))


def _resolve(walk: Walk) -> None:
    """Let every tensor carry units on one axis: a position goes only with its whole row.

    Where labels differ along several axes (a channel axis reshaped into two), the axis with the most units is kept and
    the others are tied. Ties spread to other tensors, hence the loop; each turn leaves fewer units.
    """
    many = [labels for labels in (*walk.arrays.values(), *(f.labels for f in walk.followers))]
    many = [labels for labels in many if sum(size > 1 for size in labels.shape) > 1]
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


def _uses(walk: Walk) -> list[Use]:
    """Every axis of every initializer that carries labels, in graph order, each (tensor, axis) once."""
    order = {node.name: place for place, node in enumerate(walk.model.graph.node)}
    uses = list(walk.uses)
    for follower in walk.followers:
        labels = walk.atoms.find(follower.labels)
        for axis in varying(labels):
            uses.append(Use(follower.node, follower.tensor, axis, collapse(labels, [axis]).ravel(), follower.role))
    once = {(use.tensor, use.axis): use for use in reversed(uses)}
    return sorted(once.values(), key=lambda use: order[use.node])


def _groups(walk: Walk) -> ChannelAnalysis:
    uses = _uses(walk)
    frozen, inexact = walk.atoms.frozen(), walk.atoms.inexact()
    # Units with the same slots (and as many entries in each) make a group.
    slots: dict[int, list[tuple[int, int]]] = defaultdict(list)
    positions: list[dict[int, tuple[int, ...]]] = []
    for number, use in enumerate(uses):
        labels = walk.atoms.find(use.labels)
        order = np.argsort(labels, kind="stable")
        roots, starts = np.unique(labels[order], return_index=True)
        places = dict(zip(roots.tolist(), (tuple(p.tolist()) for p in np.split(order, starts[1:])), strict=True))
        positions.append(places)
        for root, entries in places.items():
            if root not in frozen:
                slots[root].append((number, len(entries)))
    members: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for root, signature in slots.items():
        members[tuple(signature)].append(root)

    number_of = np.full(len(walk.atoms) + 1, -1, dtype=np.int64)
    groups: list[ChannelGroup] = []
    offsets: dict[str, int] = {}
    names: dict[str, int] = defaultdict(int)
    total = 0
    branches = Branches(walk, uses)
    for signature, roots in sorted(members.items(), key=lambda item: min(item[0])):
        first_use = uses[signature[0][0]]
        roots.sort(key=lambda root: positions[signature[0][0]][root])
        made_by = next((uses[n].node for n, _ in signature if uses[n].role is Role.PRODUCER), first_use.node)
        can_go = branches.removable(roots)
        if len(roots) < 2 and not can_go:
            continue
        names[made_by] += 1
        name = made_by if names[made_by] == 1 else f"{made_by}#{names[made_by]}"
        group = ChannelGroup(
            name=name,
            size=len(roots),
            exact=not inexact.intersection(roots),
            removable=can_go,
            slots=tuple(
                Slot(use.tensor, use.axis, tuple(positions[n][root] for root in roots), use.role, use.node)
                for n, use in ((n, uses[n]) for n, _ in signature)
            ),
        )
        number_of[roots] = np.arange(total, total + len(roots))
        offsets[name] = total
        total += len(roots)
        groups.append(group)
    numbers = {name: number_of[walk.atoms.find(array)] for name, array in walk.arrays.items()}
    labels = {name: collapse(array, varying(array)) for name, array in numbers.items()}
    return ChannelAnalysis(tuple(groups), _frozen(walk, uses, frozen), labels, offsets)


def _frozen(walk: Walk, uses: list[Use], reasons: dict[int, str]) -> tuple[Frozen, ...]:
    """Layers that make channels which stay, each with the first reason."""
    found: dict[str, str] = {}
    for use in uses:
        if use.role is Role.PRODUCER and use.node not in found:
            root = next((root for root in walk.atoms.find(use.labels).tolist() if root in reasons), None)
            if root is not None:
                found[use.node] = reasons[root]
    return tuple(Frozen(layer, reason) for layer, reason in found.items())
