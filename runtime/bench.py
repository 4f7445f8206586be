"""What all models of one measurement share: device, clock, inputs and warm-up."""

from __future__ import annotations

import time
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
from .session import Model, open_session

__all__ = ["Bench"]

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
        self._opening_s = self._warming_s = 0.0

    def open(self, model: Model, warm_up_s: float = WARM_UP_S) -> Runner:
        """A fresh session of `model`, warm; `shapes` must name inputs of the first model that is opened.

        Raises:
            ModelError: the model is missing or refused, or the inputs do not fit it.
            DeviceError: the device cannot be opened or cannot run the model.
        """
        started = time.perf_counter()
        session = open_session(model, self.device)
        if not self._opened:
            check_shapes(session, self._shapes)
        runner = Runner(session, feeds_for(session, self._inputs, self._shapes, self._seed), self.clock)
        opened = time.perf_counter()
        runner.warm_up(warm_up_s if self._opened else _FIRST_WARM_UP_S)
        self._opened += 1
        self._opening_s += opened - started
        self._warming_s += time.perf_counter() - opened
        return runner

    @cached_property
    def pace(self) -> Pace:
        """How fast the machine is, for whoever measures little things; opened when it is first asked for."""
        return Pace(self.open(layer_model(REFERENCE), _FIRST_WARM_UP_S))

    def conditions(self, repeats: Sequence[Repeat], seconds: float) -> dict[str, Any]:
        """For the record of every result; `seconds` is what the measurement took in all.

        What opening and warming took is that since the conditions of the measurement before.
        """
        opening_s, self._opening_s = self._opening_s, 0.0
        warming_s, self._warming_s = self._warming_s, 0.0
        return {
            "device": self.device.describe(),
            "sessions": len(repeats),
            "rounds": sum(map(len, repeats)),
            "warm_up_s": WARM_UP_S,
            "seconds": round(seconds, 3),
            "opening_s": round(opening_s, 3),
            "warming_s": round(warming_s, 3),
            "seed": self._seed,
        }
