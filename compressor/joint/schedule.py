"""Which epoch does what, and how fast the weights learn in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from .settings import Settings

__all__ = ["Phase", "Schedule"]


class Phase(StrEnum):
    """What an epoch is for."""

    WARM_UP = "warm-up"
    """Weights alone: rewards of an untrained net say nothing."""
    FILL = "fill"
    """Weights, and plans of uniform actions for the replay buffer."""
    JOINT = "joint"
    """Weights, drawn to the best plan so far, and the agent."""
    WEIGHTS = "weights"
    """Weights alone, of the plan that was chosen."""


@dataclass(frozen=True)
class Schedule:
    """Epochs are counted from 0; each phase ends before the epoch given."""

    warm_up: int
    fill: int
    joint: int
    epochs: int
    drops: tuple[int, int]
    """Epochs at which the learning rate falls."""
    rate: float
    drop: float
    """What the learning rate is multiplied with at each of them."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The shares of the settings in whole epochs; fill, joint and weights get at least one each.

        Without pruning every epoch trains weights alone, at the same rates.
        """
        total = settings.epochs
        drops = (round(settings.first_drop * total), round(settings.second_drop * total))
        if not settings.prune:
            return cls(0, 0, 0, total, drops, settings.rate, settings.drop)
        warm_up = min(round(settings.warm_up * total), total - 3)
        fill = min(max(round((settings.warm_up + settings.fill) * total), warm_up + 1), total - 2)
        joint = min(max(round((settings.warm_up + settings.fill + settings.joint) * total), fill + 1), total - 1)
        return cls(warm_up, fill, joint, total, drops, settings.rate, settings.drop)

    def phase(self, epoch: int) -> Phase:
        """What an epoch is for."""
        if epoch < self.warm_up:
            return Phase.WARM_UP
        if epoch < self.fill:
            return Phase.FILL
        return Phase.JOINT if epoch < self.joint else Phase.WEIGHTS

    def rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch."""
        return self.rate * self.drop ** sum(epoch >= drop for drop in self.drops)

    @property
    def filling(self) -> int:
        """Epochs that fill the replay buffer."""
        return self.fill - self.warm_up

    @property
    def searching(self) -> int:
        """Epochs in which plans are tried."""
        return self.joint - self.warm_up
