"""What an agent may choose from, and what it is told: plain data between the pipeline and the agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from ...errors import PlanError

__all__ = ["Choice", "LatencyModel", "Outcome", "Space", "Widths"]

Widths = Mapping[str, int]
"""A plan in counts: group name -> units kept. Groups that are left out keep all their units."""


class LatencyModel(Protocol):
    """Predicts the latency of a plan from a table of measured layers."""

    def ratio(self, widths: Widths) -> float:
        """Predicted latency of the whole net under `widths`, as a share of the original (1.0 = nothing removed)."""
        ...


@dataclass(frozen=True)
class Choice:
    """One group as an agent sees it."""

    group: str
    size: int
    """Units in the original."""
    widths: tuple[int, ...]
    """Units that may be kept: ascending, on the device's steps; the last is `size`; the first may be 0 (removable)."""
    features: Mapping[str, float]
    """Facts about the group, for the state: c_in, c_out, kernel, stride, height, width, macs, parameters, layers,
    latency (share of the original's) and damage (error after refitting at half width, relative), where known."""
    milliseconds: Mapping[int, float] = field(default_factory=dict)
    """Units kept -> milliseconds of all layers that the group touches, at every width that was measured."""
    norms: tuple[float, ...] = ()
    """Sum of the absolute weights that make each unit, averaged over the group's producers; empty where unknown."""


@dataclass(frozen=True)
class Space:
    """The search space of one model on one device: choices in graph order, and the table's prediction."""

    choices: tuple[Choice, ...]
    latency: LatencyModel
    target: float
    """Largest ratio to the original's latency that meets the target."""
    damage: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """group -> width -> share of the output's energy lost after refitting at that width (0 = none), where known."""

    @cached_property
    def full(self) -> dict[str, int]:
        """The plan that keeps everything."""
        return {choice.group: choice.size for choice in self.choices}

    @cached_property
    def narrowest(self) -> dict[str, int]:
        """The plan that keeps the fewest units anywhere."""
        return {choice.group: choice.widths[0] for choice in self.choices}

    def plan(self, row: Sequence[int]) -> dict[str, int]:
        """The plan that keeps `row[i]` units of choice i: the other way round of `row`."""
        return {choice.group: int(width) for choice, width in zip(self.choices, row, strict=True)}

    def row(self, plan: Widths) -> tuple[int, ...]:
        """Units kept per choice, in graph order; hashable. Widths off the device's steps are accepted.

        Raises:
            PlanError: a group that the space does not have, or more units than it has.
        """
        if unknown := sorted(set(plan) - set(self.full)):
            raise PlanError(f"the plan names group {unknown[0]!r}, which is not among the {len(self.choices)} choices")
        row = tuple(int(plan.get(choice.group, choice.size)) for choice in self.choices)
        for choice, width in zip(self.choices, row, strict=True):
            if not 0 <= width <= choice.size:
                raise PlanError(f"the plan keeps {width} units of group {choice.group!r}, which has {choice.size}")
        return row


@dataclass(frozen=True)
class Outcome:
    """What came of one plan."""

    score: float
    """Accuracy, agreement or closeness in [0, 1] after the cheap correction."""
    ratio: float
    """Measured latency as a share of the original's, of the same minutes."""
    seconds: float = 0.0
    """Wall time that the evaluation took: slimming, refitting, scoring, measuring."""
