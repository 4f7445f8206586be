"""Read the groups off a labelled graph: units that sit in the same places, and layers whose channels stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .branches import Branches
from .group import ChannelGroup, Frozen, Role, Slot
from .labels import collapse, varying
from .partition import Partition
from .walk import Use, Walk

__all__ = ["Found", "Labelling", "read_groups"]


@dataclass(frozen=True)
class Found:
    """A group, and the representatives of its units."""

    group: ChannelGroup
    roots: np.ndarray


@dataclass(frozen=True)
class Labelling:
    """What a walk found."""

    walk: Walk
    found: tuple[Found, ...]
    stay: dict[str, Frozen]
    """Layers that make channels which are in no group, each with the first reason."""


def read_groups(walk: Walk) -> Labelling:
    """Groups in graph order, named after the first layer that makes them."""
    uses = _uses(walk)
    frozen, inexact = walk.atoms.frozen(), walk.atoms.inexact()
    partition = Partition(walk, uses)
    branches = Branches(walk, uses, partition)
    found: list[Found] = []
    taken: Counter[str] = Counter()
    grouped = np.zeros(len(walk.atoms), dtype=bool)
    for number, slots in _slots(uses, partition, frozen):
        roots = partition.members(number)
        removable = branches.removable(number)
        if len(roots) == 1 and not removable:
            continue
        maker = next((slot.node for slot in slots if slot.role is Role.PRODUCER), slots[0].node)
        taken[maker] += 1
        name = maker if taken[maker] == 1 else f"{maker}#{taken[maker]}"
        exact = inexact.isdisjoint(roots.tolist())
        found.append(Found(ChannelGroup(name, len(roots), exact, removable, tuple(slots)), roots))
        grouped[roots] = True
    stay = {layer: Frozen(layer, reason) for layer, reason in walk.opaque.items()}
    for use in uses:
        if use.role is not Role.PRODUCER or use.node in stay:
            continue
        roots = walk.atoms.find(use.labels)
        left = roots[~grouped[roots]]
        if left.size:
            reasons = (frozen[root] for root in left.tolist() if root in frozen)
            reason = next(reasons, "no other unit sits in the same places, and one must stay")
            part = (len(left), len(roots)) if len(left) < len(roots) else ()
            stay[use.node] = Frozen(use.node, reason, *part)
    return Labelling(walk, tuple(found), stay)


def _slots(uses: Sequence[Use], partition: Partition, frozen: dict[int, str]) -> list[tuple[int, list[Slot]]]:
    """Number of a class -> the places its units sit in; classes in graph order, units in the order of the first place.

    Frozen classes are left out.
    """
    stays = {int(number) for number in np.unique(partition.of[list(frozen)])} if frozen else set()
    slots: dict[int, list[Slot]] = {}
    for use, roots in zip(uses, partition.uses, strict=True):
        classes = partition.of[roots]
        # Entries of one class side by side, those of one unit together, each ascending.
        order = np.lexsort((partition.rank[roots], classes))
        bounds = [0, *(np.flatnonzero(np.diff(classes[order])) + 1).tolist(), len(order)]
        for start, end in pairwise(bounds):
            number = int(classes[order[start]])
            if number not in stays:
                positions = order[start:end].reshape(len(partition.members(number)), -1)
                slots.setdefault(number, []).append(Slot(use.tensor, use.axis, positions, use.role, use.node))
    return sorted(slots.items(), key=lambda item: partition.place(item[0]))


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
    once = {(use.tensor, use.axis): use for use in reversed([part for use in uses for part in _parts(walk, use)])}
    return sorted(once.values(), key=lambda use: order[use.node])


def _parts(walk: Walk, use: Use) -> list[Use]:
    """The initializers behind a weight: itself, or integers with the scales and zero points of their channels."""
    stored = walk.stored.get(use.tensor)
    if stored is None:
        return [use]
    along = stored.per_channel if use.axis % len(walk.shape(use.tensor)) == stored.axis else ()
    parameters = [Use(use.node, name, 0, use.labels, Role.FOLLOWER) for name in along]
    return [Use(use.node, stored.tensor, use.axis, use.labels, use.role), *parameters]
