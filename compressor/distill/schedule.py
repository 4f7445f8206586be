"""The learning rate: a linear rise, then half a cosine."""

from __future__ import annotations

import time
from math import cos, pi

from .settings import Settings

__all__ = ["Clock", "rate_at"]


def rate_at(done: float, settings: Settings) -> float:
    """The rate when a share `done` (0..1) of the schedule is behind."""
    if done < settings.warm_up:
        return settings.rate * done / settings.warm_up
    if done >= 1:
        return 0.0
    return settings.rate * 0.5 * (1 + cos(pi * (done - settings.warm_up) / (1 - settings.warm_up)))


class Clock:
    """What share of the schedule is behind: by steps, or by the time spent.

    Args:
        steps_per_epoch: steps of one pass over the training images.
        spent: seconds that earlier sittings took.
    """

    def __init__(self, settings: Settings, steps_per_epoch: int, spent: float = 0.0) -> None:
        self._steps = None if settings.epochs is None else max(1, round(settings.epochs * steps_per_epoch))
        self._seconds = None if settings.minutes is None else 60.0 * settings.minutes
        self._spent = spent
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent so far, earlier sittings included."""
        return self._spent + time.monotonic() - self._started

    def done(self, steps: int, ahead: float = 0.0) -> float:
        """The share that is behind after so many steps; 1 is the end.

        Args:
            ahead: seconds that will still be needed after the last step.
        """
        if self._steps is not None:
            return steps / self._steps
        assert self._seconds is not None
        return (self.seconds + ahead) / self._seconds

    def lead(self, steps: int) -> float:
        """The share for the rate of the next step: the middle of it, so that neither the first nor the last is none."""
        return self.done(steps) if self._steps is None else (steps + 0.5) / self._steps
