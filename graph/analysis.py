"""The dependency analysis: walk the graph once, then read off the groups."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence

import numpy as np
import onnx

from ..errors import ModelError
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
            why = _unfit(walk, node)
        if why is None:
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
    for name in filter(None, (*node.input, *node.output)):
        shape = walk.shape(name)
        if shape is None:
            return f"the shape of {name!r} at {node.op_type} {node.name!r} is unknown"
        if 0 in shape and not walk.is_constant(name):
            return f"{name!r} at {node.op_type} {node.name!r} has no entries"
    return None


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


def _uses(walk: Walk) -> list[Use]:
    """Every axis of every initializer that carries labels, in graph order, each (tensor, axis) once."""
    order = {node.name: place for place, node in enumerate(walk.model.graph.node)}
    uses = list(walk.uses)
    for follower in walk.followers:
        labels = walk.atoms.find(follower.labels)
        uses += [
            Use(follower.node, follower.tensor, axis, collapse(labels, [axis]).ravel(), follower.role)
            for axis in varying(labels)
        ]
    once = {(use.tensor, use.axis): use for use in reversed(uses)}
    return sorted(once.values(), key=lambda use: order[use.node])


Positions = dict[int, tuple[int, ...]]
"""Representative -> the entries of one initializer's axis that carry it."""


def _positions(walk: Walk, use: Use) -> Positions:
    labels = walk.atoms.find(use.labels)
    order = np.argsort(labels, kind="stable")
    roots, starts = np.unique(labels[order], return_index=True)
    entries = (tuple(part.tolist()) for part in np.split(order, starts[1:]))
    return dict(zip(roots.tolist(), entries, strict=True))


def _company(walk: Walk) -> np.ndarray:
    """Class of every representative: two share one when the same tensors carry them.

    A group that is whole in every tensor it sits in leaves none empty as long as one unit stays.
    """
    classes = np.zeros(len(walk.atoms), dtype=np.int64)
    count, seen = 1, set()
    for labels in walk.arrays.values():
        roots = np.unique(walk.atoms.find(labels))
        if roots.tobytes() not in seen:
            seen.add(roots.tobytes())
            before, inside = np.unique(classes[roots], return_inverse=True)
            classes[roots] = count + inside
            count += len(before)
    return classes


def _members(
    places: Sequence[Positions], company: np.ndarray, frozen: Container[int]
) -> list[tuple[list[int], list[int]]]:
    """Units by the slots they sit in (and how often) and by the tensors that carry them.

    Pairs (numbers of the uses, representatives), in graph order.
    """
    signatures: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, positions in enumerate(places):
        for root, entries in positions.items():
            if root not in frozen:
                signatures[root].append((number, len(entries)))
    members: dict[tuple[int, tuple[tuple[int, int], ...]], list[int]] = defaultdict(list)
    for root, signature in signatures.items():
        members[int(company[root]), tuple(signature)].append(root)
    ordered = sorted((signature[0][0], min(roots), signature, roots) for (_, signature), roots in members.items())
    return [
        ([number for number, _ in signature], sorted(roots, key=lambda root: places[first][root]))
        for first, _, signature, roots in ordered
    ]


def _groups(walk: Walk) -> ChannelAnalysis:
    uses = _uses(walk)
    frozen, inexact = walk.atoms.frozen(), walk.atoms.inexact()
    branches = Branches(walk, uses)
    places = [_positions(walk, use) for use in uses]
    number_of = np.full(len(walk.atoms) + 1, -1, dtype=np.int64)
    groups: list[ChannelGroup] = []
    offsets: dict[str, int] = {}
    taken: Counter[str] = Counter()
    for numbers, roots in _members(places, _company(walk), frozen):
        removable = branches.removable(roots)
        if len(roots) == 1 and not removable:
            continue
        slots = [
            Slot(uses[n].tensor, uses[n].axis, tuple(places[n][r] for r in roots), uses[n].role, uses[n].node)
            for n in numbers
        ]
        maker = next((slot.node for slot in slots if slot.role is Role.PRODUCER), slots[0].node)
        taken[maker] += 1
        name = maker if taken[maker] == 1 else f"{maker}#{taken[maker]}"
        offsets[name] = sum(group.size for group in groups)
        number_of[roots] = offsets[name] + np.arange(len(roots))
        groups.append(ChannelGroup(name, len(roots), inexact.isdisjoint(roots), removable, tuple(slots)))
    numbered = {name: number_of[walk.atoms.find(array)] for name, array in walk.arrays.items()}
    labels = {name: collapse(array, varying(array)) for name, array in numbered.items()}
    return ChannelAnalysis(tuple(groups), _frozen(walk, uses, frozen, number_of), labels, offsets)


def _frozen(walk: Walk, uses: Sequence[Use], reasons: Mapping[int, str], number_of: np.ndarray) -> tuple[Frozen, ...]:
    """Layers that make channels which stay, each with the first reason."""
    order = {node.name: place for place, node in enumerate(walk.model.graph.node)}
    found = dict(walk.opaque)
    for use in uses:
        if use.role is not Role.PRODUCER or use.node in found:
            continue
        roots = walk.atoms.find(use.labels)
        if (number_of[roots] < 0).any():
            stay = (reasons[root] for root in roots.tolist() if root in reasons)
            found[use.node] = next(stay, "its channels are tied to each other: they can only go together")
    return tuple(Frozen(layer, found[layer]) for layer in sorted(found, key=order.__getitem__))
