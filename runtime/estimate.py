"""From blocks of samples to a latency, or to a ratio, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot, log
from typing import Any

import numpy as np

from .interleave import Block, Repeat
from .results import Latency
from .statistics import Interval, independent_observations, median_interval

__all__ = ["latency_interval", "latency_of", "ratio_interval", "sampling_interval"]

_CALM = 0.75  # share of blocks that kept their core; a load of 4 on two cores leaves hardly any
_WANDER = 0.0125
"""Measured over 40 comparisons of eight seconds on a virtual machine with two cores, half of them beside a busy
process: with it 39 intervals held the ratio of the quiet machine (`benchmarks/measuring.py`), without it 24."""


def latency_interval(repeats: Sequence[Repeat], model: int) -> Interval:
    """Median milliseconds of the model at that place, with its interval."""
    return median_interval(
        independent_observations([[blocks[model].median_ms for blocks in rounds] for rounds in repeats])
    )


def sampling_interval(repeats: Sequence[Repeat], model: int, clock: str = "wall") -> Interval:
    """Median over rounds and sessions of the model's time over that of the first model in the same round.

    The time of a block is the mean of its quickest quarter where the clock is that of the thread and nearly nobody took
    the core away: what else then makes calls slower lasts for milliseconds, and hits the two models by chance. Of
    ResNet-20 over ResNet-56, that has two thirds of the scatter of the mean.

    Else the time of a block is its mean. Each time another process had the core, the caches have to be filled again,
    and the longer a call, the more of its calls are hit: quantiles of a long model then contain the disturbance and
    those of a short one do not. In the mean of equally long blocks both contain it. (With 8 processes on two cores the
    mean was 2 % off, the quickest quarter 7 %; on the wall's clock the median said 0.13 and the mean 0.316 of 0.327.)
    """
    calm = clock == "thread-cpu" and _is_calm(repeats)
    return median_interval(
        independent_observations(
            [[_time(blocks[model], calm) / _time(blocks[0], calm) for blocks in rounds] for rounds in repeats]
        )
    )


def ratio_interval(repeats: Sequence[Repeat], model: int, clock: str = "wall") -> Interval:
    """The median of `sampling_interval`, and where it would lie at another time too.

    Two nets do not suffer alike when a neighbour, on another core or in another virtual machine, fills the caches that
    they share. That lasts for minutes, so that no repetition within a measurement shows it. It is no matter between a
    net and itself; ResNet-20 over ResNet-56 wanders with a standard deviation of `_WANDER`. In between it is taken to
    grow with the logarithm of the ratio, and is added to the interval's halves as errors add up that know nothing of
    each other.
    """
    found = sampling_interval(repeats, model, clock)
    wander = found.median * _WANDER * min(1.0, abs(log(found.median)))
    return Interval(
        found.median,
        found.median - hypot(found.median - found.low, wander),
        found.median + hypot(found.high - found.median, wander),
        found.confidence,
    )


def _is_calm(repeats: Sequence[Repeat]) -> bool:
    blocks = [block for rounds in repeats for blocks in rounds for block in blocks]
    return float(np.mean([block.kept_core for block in blocks])) >= _CALM


def _time(block: Block, calm: bool) -> float:
    return block.quick_ms if calm else block.mean_ms


def latency_of(repeats: Sequence[Repeat], model: int, clock: str, conditions: Mapping[str, Any]) -> Latency:
    """The result for the model at that place."""
    blocks = [blocks[model] for rounds in repeats for blocks in rounds]
    samples = np.concatenate([block.clock_ms for block in blocks])
    interval = latency_interval(repeats, model)
    return Latency(
        median_ms=interval.median,
        p90_ms=float(np.quantile(samples, 0.9)),
        low_ms=interval.low,
        high_ms=interval.high,
        confidence=interval.confidence,
        samples_ms=tuple(samples.tolist()),
        clock=clock,
        wall_median_ms=float(np.median(np.concatenate([block.wall_ms for block in blocks]))),
        conditions=dict(conditions),
    )
