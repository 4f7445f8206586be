"""What an outcome is worth. One function, so that every agent and every report ranks plans alike."""

from __future__ import annotations

import math

from .space import Outcome

__all__ = ["better", "reward"]


def reward(outcome: Outcome, target: float) -> float:
    """The score in [0, 1] when the measured ratio meets `target`; otherwise in [-1, 0), lower the further above.

    The budget is a wall and the reward is about accuracy alone: a reward that pays for size whatever the accuracy
    collapses to maximal pruning. A failed measurement (NaN) is worth the least.
    """
    if outcome.ratio <= target:
        return outcome.score
    excess = outcome.ratio - target
    return -excess / (1.0 + excess) if math.isfinite(excess) else -1.0


def better(a: Outcome, b: Outcome | None, target: float) -> bool:
    """Whether `a` is worth more than `b` (anything beats None); of two equal rewards the faster one wins."""
    if b is None:
        return True
    return (reward(a, target), -a.ratio) > (reward(b, target), -b.ratio)
