"""Milliseconds of one layer at one width, measured once: what bounds an agent's actions and shows a device's steps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from .bench import Bench
from .device import Device
from .host import cpu_name, onnxruntime_release
from .interleave import play
from .layer_cache import LayerCache
from .layer_model import control_model, layer_model
from .layers import LayerShape
from .statistics import median_interval

__all__ = ["LatencyTable", "useful_widths"]

_WARM_UP_S = 0.002
_BLOCK_MS = 0.5
_BATCH = 8  # rounds between two looks at the interval
_PRECISION = 0.03
_NEGLIGIBLE_MS = 0.0005
_LONGEST_S = 0.12


class LatencyTable:
    """What layers cost on a device, in the context of a network (see `layer_model`).

    Args:
        device: where to measure.
        cache_path: a SQLite file that keeps the figures for later runs; None keeps them in memory.
        known: figures of an earlier run (see `dump`), which come before those of the cache.
        replay: measure nothing: what is not `known` is an error.

    Raises:
        OutputError: a cache that cannot be opened.
        DeviceError: a remote device.
    """

    def __init__(
        self,
        device: Device,
        cache_path: str | os.PathLike[str] | None = None,
        *,
        known: Mapping[str, Any] | None = None,
        replay: bool = False,
    ) -> None:
        self.device = device
        self.hits = 0
        """Figures that were known."""
        self.misses = 0
        """Figures that had to be measured."""
        self.seconds = 0.0
        """Time spent on measuring."""
        self._conditions = device.describe()
        self._bench = Bench(device, None, None, seed=0)
        self._known: dict[LayerShape, float] = {}
        self._replaying = replay
        if known is not None:
            self._known = {LayerShape.from_dict(row["shape"]): float(row["milliseconds"]) for row in known["layers"]}
        self._cache = None
        if cache_path is not None:
            self._cache = LayerCache(Path(cache_path), str(device), onnxruntime_release(), cpu_name())

    def milliseconds(self, shape: LayerShape) -> float:
        """Cost of a layer in milliseconds of the device's clock.

        Raises:
            ModelError: a layer that onnxruntime refuses.
            DeviceError: the device cannot be opened.
            RunError: replaying a record that lacks this layer.
        """
        known = self._known.get(shape)
        if known is None and self._cache is not None and not self._replaying:
            known = self._cache.get(shape)
        if known is not None:
            self.hits += 1
            self._known[shape] = known
            return known
        if self._replaying:
            raise RunError(
                f"the record of layer latencies has no {shape}: replay it with the model and settings it is of"
            )
        self.misses += 1
        started = time.perf_counter()
        measured = _measure(self._bench, shape)
        self.seconds += time.perf_counter() - started
        self._known[shape] = measured
        if self._cache is not None:
            self._cache.put(shape, measured)
        return measured

    def measure_all(
        self, shapes: Iterable[LayerShape], progress: Callable[[int, int], None] | None = None
    ) -> dict[LayerShape, float]:
        """Cost of every layer; `progress` is called with how many are done and how many there are."""
        wanted = list(dict.fromkeys(shapes))
        found = {}
        for done, shape in enumerate(wanted, start=1):
            found[shape] = self.milliseconds(shape)
            if progress is not None:
                progress(done, len(wanted))
        return found

    def dump(self) -> dict[str, Any]:
        """Every figure asked for so far, as plain values that JSON can hold, for `known`."""
        layers = [{"shape": shape.to_dict(), "milliseconds": cost} for shape, cost in self._known.items()]
        return {"device": self._conditions, "layers": layers}


def _measure(bench: Bench, shape: LayerShape) -> float:
    """Difference between the two models of `layer_model`, interleaved, until it is known well enough."""
    started = time.perf_counter()
    runners = [bench.open(build(shape), _WARM_UP_S) for build in (layer_model, control_model)]
    rng = np.random.default_rng(0)
    costs: list[float] = []
    while True:
        costs += [layer.mean_ms - control.mean_ms for layer, control in play(runners, _BATCH, _BLOCK_MS, rng)]
        found = median_interval(costs)
        known = found.high - found.low <= max(_PRECISION * found.median, _NEGLIGIBLE_MS)
        if known or time.perf_counter() - started > _LONGEST_S:
            return max(found.median, 0.0)


def useful_widths(cost_by_width: Mapping[int, float], tolerance: float = 0.03) -> tuple[int, ...]:
    """The widths worth proposing, ascending: the device's steps.

    From the widest down, a width is kept where it is cheaper by more than `tolerance` than every wider one that is
    kept: another that costs as much has channels for nothing. The widest is always kept.

    Args:
        cost_by_width: channels -> milliseconds, of one layer or of all that a group touches.
        tolerance: relative difference that is noise.

    Raises:
        ValueError: no widths.
    """
    if not cost_by_width:
        raise ValueError("useful_widths needs at least one width")
    kept: list[int] = []
    cheapest = float("inf")
    for width in sorted(cost_by_width, reverse=True):
        cost = cost_by_width[width]
        if not kept or cost < cheapest * (1 - tolerance):
            kept.append(width)
            cheapest = min(cheapest, cost)
    return tuple(reversed(kept))
