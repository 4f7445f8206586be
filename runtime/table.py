"""Milliseconds of one layer at one width, measured once: what bounds an agent's actions and shows a device's steps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from .bench import Bench
from .device import Device
from .interleave import play
from .layer_cache import LayerCache
from .layer_model import control_model, layer_model
from .layers import LayerShape
from .service import remote
from .statistics import FEWEST_OBSERVATIONS, median_interval

__all__ = ["Costs", "LatencyTable", "layer_costs", "useful_widths"]

Costs = Callable[[Sequence[LayerShape], float | None], tuple[float, list[float]]]
"""Measures layers: (shapes, the reference's time at the pace of earlier figures) -> (the one used, milliseconds)."""

_WARM_UP_S = 0.002
_BLOCK_MS = 0.5
_BATCH = 8  # rounds between two looks at the interval
_PRECISION = 0.03
_NEGLIGIBLE_MS = 0.0005
_LONGEST_S = 0.12  # for a figure of a quiet machine, if not as good a one as was wanted
_PATIENCE_S = 0.8  # for the machine to become quiet, while the pace has any left


class LatencyTable:
    """What layers cost on a device, in the context of a network (see `layer_model`).

    Args:
        device: where to measure.
        cache_path: a SQLite file that keeps the figures for later runs; None keeps them in memory.
        known: figures of an earlier run (see `dump`), which come before those of the cache.
        replay: measure nothing: what is not `known` is an error.

    Raises:
        OutputError: a cache that cannot be opened.
        DeviceError: a remote device that cannot be reached.
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
        self._unit_ms: float | None = None
        self._costs = remote.layer_costs(device) if device.is_remote else layer_costs(device)
        self._known: dict[LayerShape, float] = {}
        self._replaying = replay
        if known is not None:
            self._known = {LayerShape.from_dict(row["shape"]): float(row["milliseconds"]) for row in known["layers"]}
            self._unit_ms = known.get("reference_ms")
        self._cache = None
        if cache_path is not None:
            spec, release, cpu = (str(self._conditions[name]) for name in ("spec", "onnxruntime", "cpu"))
            self._cache = LayerCache(Path(cache_path), spec, release, cpu)
            self._unit_ms = self._unit_ms or self._cache.reference()

    def milliseconds(self, shape: LayerShape) -> float:
        """Cost of a layer in milliseconds of the device's clock.

        Raises:
            ModelError: a layer that onnxruntime refuses.
            DeviceError: the device cannot be opened.
            RunError: replaying a record that lacks this layer.
        """
        known = self._recall(shape)
        if known is not None:
            self.hits += 1
            return known
        if self._replaying:
            raise RunError(
                f"the record of layer latencies has no {shape}: replay it with the model and settings it is of"
            )
        return self._measure([shape])[0]

    def measure_all(
        self, shapes: Iterable[LayerShape], progress: Callable[[int, int], None] | None = None
    ) -> dict[LayerShape, float]:
        """Cost of every layer; `progress` is called with how many are done and how many there are."""
        wanted = list(dict.fromkeys(shapes))
        each = max(1, len(self.device.addresses))  # so that every service of a list has something to do
        found: dict[LayerShape, float] = {}
        for start in range(0, len(wanted), each):
            batch = wanted[start : start + each]
            missing = [] if self._replaying else [shape for shape in batch if self._recall(shape) is None]
            if len(missing) > 1:
                found.update(zip(missing, self._measure(missing), strict=True))
            found.update((shape, self.milliseconds(shape)) for shape in batch if shape not in found)
            if progress is not None:
                progress(len(found), len(wanted))
        return found

    def dump(self) -> dict[str, Any]:
        """Every figure asked for so far, as plain values that JSON can hold, for `known`."""
        layers = [{"shape": shape.to_dict(), "milliseconds": cost} for shape, cost in self._known.items()]
        return {"device": self._conditions, "reference_ms": self._unit_ms, "layers": layers}

    def _recall(self, shape: LayerShape) -> float | None:
        """What is known of a layer."""
        known = self._known.get(shape)
        if known is None and self._cache is not None and not self._replaying:
            known = self._cache.get(shape)
        if known is not None:
            self._known[shape] = known
        return known

    def _measure(self, shapes: Sequence[LayerShape]) -> list[float]:
        """Figures of all runs that share a cache are at the pace of the first."""
        self.misses += len(shapes)
        started = time.perf_counter()
        unit_ms, measured = self._costs(shapes, self._unit_ms)
        self.seconds += time.perf_counter() - started
        if self._unit_ms is None:
            self._unit_ms = unit_ms
            if self._cache is not None:
                self._cache.put_reference(unit_ms)
        for shape, cost in zip(shapes, measured, strict=True):
            self._known[shape] = cost
            if self._cache is not None:
                self._cache.put(shape, cost)
        return measured


def layer_costs(device: Device) -> Costs:
    """What measures layers on a device of this machine."""
    bench = Bench(device, None, None, seed=0)

    def costs(shapes: Sequence[LayerShape], unit_ms: float | None) -> tuple[float, list[float]]:
        bench.pace.unit_ms = unit_ms or bench.pace.unit_ms
        return bench.pace.unit_ms, [measure_layer(bench, shape) for shape in shapes]

    return costs


def measure_layer(bench: Bench, shape: LayerShape) -> float:
    """Difference between the two models of `layer_model`, interleaved with the reference, until it is known well.

    Only rounds count in which the reference was undisturbed. Where patience runs out before there are enough of them,
    all do, and the figure is brought to the quiet pace by what the reference took. Rounds are scaled to the pace of
    the other figures either way: a clock rate that changed since then is no property of a layer.
    """
    started, pace = time.perf_counter(), bench.pace
    runners = [*(bench.open(build(shape), _WARM_UP_S) for build in (layer_model, control_model)), pace.runner]
    rng = _order()
    rounds: list[tuple[float, float]] = []
    while True:
        played = play(runners, _BATCH, _BLOCK_MS, rng)
        pace.note(reference.mean_ms for _, _, reference in played)
        rounds += [(layer.mean_ms - control.mean_ms, reference.mean_ms) for layer, control, reference in played]
        quiet = [(cost, reference) for cost, reference in rounds if reference <= pace.limit_ms]
        elapsed = time.perf_counter() - started
        enough = len(quiet) >= FEWEST_OBSERVATIONS
        if not enough and elapsed < min(_PATIENCE_S, pace.patience_s):
            continue
        found = median_interval([cost * pace.unit_ms / reference for cost, reference in (quiet if enough else rounds)])
        known = found.high - found.low <= max(_PRECISION * found.median, _NEGLIGIBLE_MS)
        if known or elapsed > _LONGEST_S:
            pace.patience_s -= max(0.0, elapsed - _LONGEST_S)
            return max(found.median, 0.0)


def _order() -> np.random.Generator:
    """Draws the order within rounds."""
    return np.random.default_rng(0)


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
