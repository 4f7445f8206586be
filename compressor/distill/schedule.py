"""The learning rate: a linear rise to a peak that suits the number of steps, then half a cosine."""

from __future__ import annotations

import time
from math import cos, inf, pi, sqrt
from typing import Any

from .settings import Settings

__all__ = ["Ceiling", "Clock", "peak_rate", "rate_at"]

_HIGHEST, _LOWEST = 0.03, 0.001
_WINDOW = 10
"""Steps whose mean loss is compared: of single batches it scattered by 23 % (ResNet-56 at 0.7x, 128 images)."""
_LATE = 0.5
"""Share of the schedule after which no student begins anew."""
_RISE = 1.5
"""Of the loss over its beginning, from which on the rate is too high."""


def peak_rate(steps: float) -> float:
    """The largest rate of a schedule of so many steps, unless the user says another: with their square root.

    A slim net is refitted before it is taught, and the first steps at a high rate undo that: what they lose takes
    hundreds of steps to win back, and only then leads further. Soft scores on held-out training images: a ResNet-56 at
    half its latency came in 60 steps to .974, .975 and .965 with .003, .01 and .03; a ResNet-20 at 0.5x in 70 steps to
    .879 and .878 with .01 and .03, in 562 to .900, .906 and .884 with .01, .03 and .1 (`docs/benchmarks.md`).
    """
    return min(_HIGHEST, max(_LOWEST, 0.01 * sqrt(steps / 100)))


def rate_at(done: float, settings: Settings, steps: float, most: float = inf) -> float:
    """The rate when a share `done` (0..1) of a schedule of so many steps is behind, whose peak is `most` or less."""
    peak = min(most, peak_rate(steps)) if settings.rate is None else settings.rate
    if done < settings.warm_up:
        return peak * done / settings.warm_up
    if done >= 1:
        return 0.0
    return peak * 0.5 * (1 + cos(pi * (done - settings.warm_up) / (1 - settings.warm_up)))


class Ceiling:
    """The highest peak that a student stands: half the rate at which its loss rose above where it began.

    A student that is nearly as good as its teacher has more to lose than to learn, and a deep net whose
    BatchNormalization is folded away stands less than one that still has it. Neither can be told from the number of
    steps, but both show while the rate rises.

    Args:
        state: of an earlier sitting.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {"most": inf, "anew": False, "first": [], "recent": []}
        self.most: float = state["most"]
        self.anew: bool = state["anew"]
        """Whether the student should begin anew before its next step."""
        self._first: list[float] = list(state["first"])
        self._recent: list[float] = list(state["recent"])

    def told(self, loss: float, rate: float, done: float) -> None:
        """Learn from one more step at this rate: the loss before it, and the share of the schedule behind it.

        Late in the schedule the rate falls of itself, and too little time would be left to begin again.
        """
        self.anew = False
        if done > _LATE:
            return
        if len(self._first) < _WINDOW:
            self._first.append(loss)
            return
        self._recent = [*self._recent, loss][-_WINDOW:]
        # A loss that is no number has risen, too.
        if len(self._recent) == _WINDOW and not sum(self._recent) <= _RISE * sum(self._first):
            self.most = min(self.most, rate) / 2
            self.anew, self._recent = True, []

    @property
    def state(self) -> dict[str, Any]:
        """What the next sitting is given."""
        return {"most": self.most, "anew": self.anew, "first": self._first, "recent": self._recent}


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

    def expected(self, steps: int) -> float:
        """Steps of the whole schedule, as far as the time of the first `steps` tells."""
        return float(self._steps) if self._steps is not None else steps / max(self.done(steps), 1e-9)

    def lead(self, steps: int) -> float:
        """The share for the rate of the next step: the middle of it, so that neither the first nor the last is none."""
        return self.done(steps) if self._steps is None else (steps + 0.5) / self._steps
