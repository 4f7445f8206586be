"""How latency moves with the channels of each group on a device: its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import InputError
from ..graph import analyze, load
from ..runtime import Device, LatencyTable, layer_shapes, useful_widths
from .search.candidates import prunable_groups, steps_tolerance, width_costs
from .search.prediction import Prediction

__all__ = ["GroupProfile", "ModelProfile", "profile"]


@dataclass(frozen=True)
class GroupProfile:
    """What a group costs at several widths, everything else whole."""

    name: str
    size: int
    milliseconds: dict[int, float]
    """Units kept -> milliseconds of all layers that make, pass on or read the group; ascending."""
    steps: tuple[int, ...]
    """The widths worth having: each is cheaper than every wider one. The widest is the whole group."""

    @property
    def full_ms(self) -> float:
        """Milliseconds of the group's layers with every unit."""
        return self.milliseconds[self.size]


@dataclass(frozen=True)
class ModelProfile:
    """All groups of a model, and what measuring them took."""

    device: dict[str, str | int | bool | None]
    """The conditions, as `Device.describe` states them."""
    groups: tuple[GroupProfile, ...]
    layers_ms: float
    """Sum over all layers that were measured, whole."""
    measured: int
    """Layers at some width that had to be measured; the others were known."""
    seconds: float


def profile(
    model: Path,
    device: Device,
    *,
    patterns: Sequence[str] = (),
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ModelProfile:
    """Measure every group at candidate widths; sizes of inputs that are not fixed are 1.

    A layer is measured in the context of a network, with the activation behind it (see `runtime.layer_model`), and
    kept in `cache` by device, release, CPU and shape: a second model with the same layers costs nothing.

    Args:
        patterns: shell wildcards of group names; all groups where there are none.
        cache: a SQLite file; None measures everything anew.
        progress: called with groups done and groups in all.

    Raises:
        ModelError: the model cannot be read or run.
        NothingToPruneError: it has no group of channels, or no layer that the table can measure.
        InputError: a pattern that matches no group.
        DeviceError: the device cannot be opened.
    """
    started = time.perf_counter()
    loaded = load(model)
    analysis = analyze(loaded)
    groups = prunable_groups(analysis)
    for pattern in patterns:
        if not any(fnmatchcase(group.name, pattern) for group in groups):
            raise InputError(f"--group {pattern!r} matches no group; `ortrim inspect` lists them")
    chosen = [g for g in groups if not patterns or any(fnmatchcase(g.name, pattern) for pattern in patterns)]
    table = LatencyTable(device, cache)
    prediction = Prediction(analysis, layer_shapes(loaded), table)
    found = []
    for done, group in enumerate(chosen, start=1):
        costs = width_costs(group, prediction)
        found.append(GroupProfile(group.name, group.size, costs, useful_widths(costs, steps_tolerance(costs))))
        if progress is not None:
            progress(done, len(chosen))
    whole = prediction.full_ms  # measures the layers that no group touches, so before the count is read
    return ModelProfile(device.describe(), tuple(found), whole, table.misses, time.perf_counter() - started)
