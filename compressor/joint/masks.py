"""The net without some of its channels, while they are still there.

A unit is switched off by zeroing what reads it (its consumer slices). For an exact group that is what removing it
does, whatever lies between (BatchNormalization, activations that are not 0 at 0): the masked module computes what the
slim graph will compute. Other groups (channels that a LayerNorm mixes) are not offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import NothingToPruneError
from ...graph import ChannelAnalysis, ChannelGroup, Role
from ...graph.torch_module import OnnxModule
from ..recovery import Ranking

__all__ = ["Cut", "Masks", "Removal", "maskable_groups"]

Removal = Mapping[str, tuple[int, ...]]
"""group -> units that are off."""


@dataclass(frozen=True, eq=False)
class Cut:
    """Entries of one tensor along one axis that belong to units that are off."""

    tensor: str
    axis: int
    gone: Tensor = field(repr=False)
    """int64 (entries,), ascending."""
    role: Role


def maskable_groups(analysis: ChannelAnalysis) -> tuple[ChannelGroup, ...]:
    """The groups that a mask can switch off.

    Raises:
        NothingToPruneError: there are none.
    """
    groups = tuple(group for group in analysis.groups if group.exact and group.consumers)
    if not groups:
        raise NothingToPruneError(
            "nothing to prune: no group of channels can be masked; --no-prune trains the whole net"
        )
    return groups


class Masks:
    """Masks on the parameters of one module."""

    def __init__(self, analysis: ChannelAnalysis, module: OnnxModule) -> None:
        self.analysis = analysis
        self._values = module.initializers
        self.groups = maskable_groups(analysis)

    def ranking(self) -> Ranking:
        """Units in the order in which they go: by the L1 norm of their filters as they are now, smallest first.

        Of a group that several layers make (a residual stream) the norms are averaged over them.
        """
        return Ranking({group.name: self._order(group) for group in self.groups})

    def _order(self, group: ChannelGroup) -> tuple[int, ...]:
        norms = torch.zeros(group.size, dtype=torch.float64)
        for wanted in (Role.PRODUCER, Role.CONSUMER):
            for slot in group.slots:
                weight = self._values[slot.tensor]
                if slot.role is wanted and weight.ndim >= 2 and weight.is_floating_point():
                    entries = weight.detach().double().abs().transpose(0, slot.axis).flatten(1).sum(dim=1).cpu()
                    norms += entries[torch.from_numpy(slot.positions.copy())].mean(dim=1)
            if norms.any():
                break  # what makes the channels decides; what reads them only where nothing with weights makes them
        return tuple(torch.argsort(norms, stable=True).tolist())

    def cuts(self, removal: Removal, roles: Iterable[Role] = (Role.CONSUMER,)) -> list[Cut]:
        """Where the units that are off sit in tensors with these roles; each tensor and axis once a role."""
        gone: dict[tuple[str, int, Role], set[int]] = {}
        wanted = set(roles)
        for name, units in removal.items():
            for piece in self.analysis.group(name).slices(units):
                if piece.role in wanted:
                    gone.setdefault((piece.tensor, piece.axis, piece.role), set()).update(piece.indices)
        return [
            Cut(tensor, axis, torch.tensor(sorted(at), device=self._values[tensor].device), role)
            for (tensor, axis, role), at in gone.items()
        ]

    @torch.no_grad()
    def switch_off(self, removal: Removal) -> None:
        """Zero what reads the units that are off."""
        self.zero(self.cuts(removal))

    @torch.no_grad()
    def zero(self, cuts: Iterable[Cut]) -> None:
        """Zero the entries of cuts that were made before."""
        for cut in cuts:
            self._values[cut.tensor].index_fill_(cut.axis, cut.gone, 0.0)

    @contextmanager
    def off(self, removal: Removal) -> Iterator[None]:
        """The units are off inside; after it the weights are what they were, bit for bit."""
        cuts = self.cuts(removal)
        before = {cut.tensor: self._values[cut.tensor].detach().clone() for cut in cuts}
        self.zero(cuts)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in before.items():
                    self._values[name].copy_(value)
