"""A net on its way from the original to the slim one, which may take several steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx

from ..graph import ChannelAnalysis

__all__ = ["Net"]


@dataclass(frozen=True)
class Net:
    """What a step starts from: the original, or what an earlier step has made of it."""

    model: onnx.ModelProto = field(repr=False)
    analysis: ChannelAnalysis = field(repr=False)
    original: onnx.ModelProto = field(repr=False)
    original_analysis: ChannelAnalysis = field(repr=False)
    gone: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    """Group -> units of the original that earlier steps have removed."""

    @property
    def composable(self) -> bool:
        """Whether every group is what is left of the original's group of that name.

        Where a branch went, what it joined may have fallen apart into other groups.
        """
        sizes = {group.name: group.size for group in self.original_analysis.groups}
        return all(
            sizes.get(group.name, 0) == group.size + len(self.gone.get(group.name, ()))
            for group in self.analysis.groups
        )

    def in_original(self, removal: Mapping[str, Collection[int]]) -> dict[str, tuple[int, ...]]:
        """All that is gone once `removal` is too, in units of the original; of a net that is `composable`.

        Args:
            removal: in units of this net.
        """
        gone = dict(self.gone)
        for name, units in removal.items():
            before = set(gone.get(name, ()))
            left = [unit for unit in range(self.original_analysis.group(name).size) if unit not in before]
            gone[name] = tuple(sorted(before | {left[unit] for unit in units}))
        return gone

    def widths(self, plan: Mapping[str, int]) -> dict[str, int]:
        """Units kept under a plan for this net, of the groups in it and of those that earlier steps have narrowed."""
        earlier = {name: self.original_analysis.group(name).size - len(units) for name, units in self.gone.items()}
        return {**earlier, **plan}
