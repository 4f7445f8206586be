"""What all models of one measurement share: device, clock, inputs and warm-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .clock import clock_for
from .device import Device, require_local
from .inputs import Shapes, check_shapes, feeds_for
from .interleave import Repeat, Runner
from .layer_model import layer_model
from .pace import REFERENCE, Pace
from .results import Latency
from .session import Model, open_session
from .statistics import Interval, independent_observations, median_interval

__all__ = ["Bench", "latency_interval", "latency_of", "ratio_interval"]

_FIRST_WARM_UP_S = 0.2  # the clock rate of an idle CPU takes about that long to rise
WARM_UP_S = 0.02  # of a fresh session on a busy CPU: its first calls allocate and find cold caches


class Bench:
    """Opens sessions of models that are to be measured alike.

    Raises:
        DeviceError: a remote device.
    """

    def __init__(
        self, device: Device, inputs: Mapping[str, np.ndarray] | None, shapes: Shapes | None, seed: int
    ) -> None:
        require_local(device)
        self.device = device
        self.clock = clock_for(device)
        self._inputs = inputs
        self._shapes = dict(shapes or {})
        self._seed = seed
        self._opened = 0

    def open(self, model: Model, warm_up_s: float = WARM_UP_S) -> Runner:
        """A fresh session of `model`, warm; `shapes` must name inputs of the first model that is opened.

        Raises:
            ModelError: the model is missing or refused, or the inputs do not fit it.
            DeviceError: the device cannot be opened or cannot run the model.
        """
        session = open_session(model, self.device)
        if not self._opened:
            check_shapes(session, self._shapes)
        runner = Runner(session, feeds_for(session, self._inputs, self._shapes, self._seed), self.clock)
        runner.warm_up(warm_up_s if self._opened else _FIRST_WARM_UP_S)
        self._opened += 1
        return runner

    @cached_property
    def pace(self) -> Pace:
        """How fast the machine is, for whoever measures little things; opened when it is first asked for."""
        return Pace(self.open(layer_model(REFERENCE), _FIRST_WARM_UP_S))

    def conditions(self, repeats: Sequence[Repeat], seconds: float) -> dict[str, Any]:
        """For the record of every result; `seconds` is what the measurement took in all."""
        return {
            "device": self.device.describe(),
            "sessions": len(repeats),
            "rounds": sum(map(len, repeats)),
            "warm_up_s": WARM_UP_S,
            "seconds": round(seconds, 3),
            "seed": self._seed,
        }


def latency_interval(repeats: Sequence[Repeat], model: int) -> Interval:
    """Median milliseconds of the model at that place, with its interval."""
    return median_interval(
        independent_observations([[blocks[model].median_ms for blocks in rounds] for rounds in repeats])
    )


def ratio_interval(repeats: Sequence[Repeat], model: int) -> Interval:
    """Median over rounds and sessions of the model's time over that of the first model in the same round.

    The time of a block is its mean. Each time another process had the core, the caches have to be filled again, and the
    longer a call, the more of its calls are hit: the median of a long model then contains the disturbance and that of
    a short one does not. In the mean of equally long blocks both contain it. ResNet-20 over ResNet-56 on a quiet
    machine is 0.327; with a load of 7 to 9 on two cores medians of blocks said 0.30 on the thread's clock and 0.13 on
    the wall, means said 0.316 on both and varied least of eight estimators.
    """
    return median_interval(
        independent_observations(
            [[blocks[model].mean_ms / blocks[0].mean_ms for blocks in rounds] for rounds in repeats]
        )
    )


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
