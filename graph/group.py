"""What the analysis tells the other rooms: groups of coupled channels, and what is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import combinations
from operator import index

import numpy as np

from ..errors import PlanError
from .kept import Kept

__all__ = ["ChannelAnalysis", "ChannelGroup", "Frozen", "Role", "Slice", "Slot"]


class Role(StrEnum):
    """What an initializer does with a channel."""

    PRODUCER = "producer"
    """Makes the channel: Conv weight axis 0 and its bias."""
    FOLLOWER = "follower"
    """A per-channel parameter on the way: BatchNormalization, PRelu slope, depthwise Conv weight, added constant."""
    CONSUMER = "consumer"
    """Reads the channel: Conv weight axis 1, Gemm and MatMul rows."""


@dataclass(frozen=True)
class Slice:
    """Entries that one initializer loses."""

    tensor: str
    axis: int
    indices: tuple[int, ...]
    role: Role


@dataclass(frozen=True)
class Frozen:
    """A layer that makes channels which stay, and the reason, in words that a person can act on."""

    layer: str
    reason: str
    channels: int | None = None
    """How many of its channels stay, where others may go."""
    of: int | None = None
    """How many it makes, where others may go."""

    @property
    def part(self) -> str:
        """`4 of 16`; empty where all stay."""
        return "" if self.channels is None else f"{self.channels} of {self.of}"


@dataclass(frozen=True, eq=False)
class Slot:
    """One axis of one initializer in which a group sits."""

    tensor: str
    axis: int
    positions: np.ndarray = field(repr=False)
    """(units, entries a unit): where each unit sits, ascending."""
    role: Role
    node: str


@dataclass(frozen=True)
class ChannelGroup:
    """Units that sit in the same slots.

    Any proper subset of `range(size)` is a valid removal; all of them only when `removable`.
    """

    name: str
    size: int
    exact: bool
    """True when removing a unit equals zeroing its consumer slices in the original."""
    removable: bool
    """True when all units may go: the branch then collapses to its constant contribution."""
    slots: tuple[Slot, ...] = field(repr=False)

    @cached_property
    def producers(self) -> tuple[str, ...]:
        """Names of the nodes that make these channels, in graph order."""
        return tuple(dict.fromkeys(s.node for s in self.slots if s.role is Role.PRODUCER))

    @cached_property
    def consumers(self) -> tuple[str, ...]:
        """Names of the nodes that read these channels through weights, in graph order."""
        return tuple(dict.fromkeys(s.node for s in self.slots if s.role is Role.CONSUMER))

    def check(self, units: Iterable[int]) -> tuple[int, ...]:
        """`units` sorted and without repeats.

        Raises:
            PlanError: a unit that is no whole number or not in `range(size)`, or all of them where the group must keep
                one.
        """
        try:
            wanted = sorted({index(unit) for unit in units})
        except TypeError as error:
            raise PlanError(f"units of group {self.name!r} are whole numbers: {error}") from error
        if wanted and not (wanted[0] >= 0 and wanted[-1] < self.size):
            raise PlanError(f"group {self.name!r} has units 0..{self.size - 1}, got {wanted[0]}..{wanted[-1]}")
        if len(wanted) == self.size and not self.removable:
            raise PlanError(f"group {self.name!r} must keep at least one of its {self.size} units")
        return tuple(wanted)

    def slices(self, units: Iterable[int]) -> tuple[Slice, ...]:
        """Every initializer of `load`'s model that loses entries when `units` go, and which entries."""
        wanted = list(self.check(units))
        if not wanted:
            return ()
        entries = ((slot, np.sort(slot.positions[wanted], axis=None).tolist()) for slot in self.slots)
        return tuple(Slice(slot.tensor, slot.axis, tuple(gone), slot.role) for slot, gone in entries)


@dataclass(frozen=True)
class ChannelAnalysis:
    """All groups of a model, and what cannot be pruned."""

    groups: tuple[ChannelGroup, ...]
    frozen: tuple[Frozen, ...]
    views: tuple[Mapping[str, np.ndarray], ...] = field(repr=False)
    """Labellings of the graph. One, or two where channels lie on two axes, as heads and as channels of every head:
    these cross, so that one position belongs to a unit of each.

    A labelling gives per tensor an integer array, of the tensor's rank, size 1 on axes along which labels do not
    differ: the unit (global number) that each position belongs to, -1 for positions that always stay."""
    offsets: Mapping[str, int] = field(repr=False)
    """Global number of unit 0 of each group; units of a group are numbered consecutively."""

    @property
    def labels(self) -> Mapping[str, np.ndarray]:
        """The first labelling."""
        return self.views[0]

    @cached_property
    def by_name(self) -> Mapping[str, ChannelGroup]:
        return {group.name: group for group in self.groups}

    @cached_property
    def crossing(self) -> frozenset[frozenset[str]]:
        """Pairs of groups that share channels (heads, and channels of every head)."""
        if len(self.views) == 1:
            return frozenset()
        sharing: dict[tuple[str, int], list[tuple[str, set[int]]]] = {}
        for group in self.groups:
            for slot in group.slots:
                entries = set(slot.positions.ravel().tolist())
                sharing.setdefault((slot.tensor, slot.axis), []).append((group.name, entries))
        pairs = (pair for members in sharing.values() for pair in combinations(members, 2))
        return frozenset(frozenset((a, b)) for (a, ours), (b, theirs) in pairs if not ours.isdisjoint(theirs))

    def kept(self, removal: Mapping[str, Iterable[int]]) -> Kept:
        """Which positions of every tensor are left.

        Raises:
            PlanError: as `ChannelGroup.check`.
        """
        removed = np.zeros(sum(group.size for group in self.groups) + 1, dtype=bool)
        for name, units in removal.items():
            removed[[self.offsets[name] + unit for unit in self.group(name).check(units)]] = True
        return Kept(self.views, removed)

    def group(self, name: str) -> ChannelGroup:
        """The group of that name.

        Raises:
            PlanError: no such group.
        """
        found = self.by_name.get(name)
        if found is None:
            raise PlanError(f"the model has no group {name!r}; `ortrim inspect` lists them")
        return found
