"""The questions of `ortrim.runtime`, answered by a remote device: what `measure` and the others do with one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..device import Device
from ..inputs import Shapes
from ..interleave import Effort
from ..layers import LayerShape
from ..results import Latency, Ratio
from ..session import Model
from .client import Client, Upload, upload_of_inputs, upload_of_model
from .pool import Pool
from .protocol import Task

__all__ = ["RemoteComparator", "compare_many", "layer_costs", "measure", "node_rows"]


def measure(
    model: Model,
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None,
    shapes: Shapes | None,
    seconds: float,
    precision: float,
    seed: int,
) -> Latency:
    """`ortrim.runtime.measure`."""
    task = Task("measure", seconds=seconds, precision=precision, seed=seed)
    fields, address = _ask(device, task, [model], inputs, shapes)
    return _addressed(Latency.from_dict(fields), address)


def compare_many(
    models: Sequence[Model],
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None,
    shapes: Shapes | None,
    seconds: float,
    precision: float,
    seed: int,
) -> tuple[Ratio, ...]:
    """`ortrim.runtime.compare_many`; the baseline comes first. All on one device, since all are interleaved."""
    task = Task("compare", seconds=seconds, precision=precision, seed=seed)
    rows, address = _ask(device, task, models, inputs, shapes)
    return tuple(_addressed_ratio(Ratio.from_dict(row), address) for row in rows)


def node_rows(
    kind: str,
    model: Model,
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None,
    shapes: Shapes | None,
    runs: int,
    seed: int,
) -> Any:  # noqa: ANN401 (plain values, which `node_times` and `explain` make their own of)
    """The fields of `node_times` (`nodes`) or of `explain`."""
    return _ask(device, Task(kind, runs=runs, seed=seed), [model], inputs, shapes)[0]


def layer_costs(device: Device) -> Callable[[Sequence[LayerShape], float | None], tuple[float, list[float]]]:
    """What measures layers (see `ortrim.runtime.table.Costs`), on all services of the device at the same time."""
    pool = Pool(device)

    def costs(shapes: Sequence[LayerShape], unit_ms: float | None) -> tuple[float, list[float]]:
        def ask(client: Client, shape: LayerShape) -> tuple[float, float]:
            found = client.run(Task("layers", layers=(shape,), known_ms=unit_ms))
            return float(found["unit_ms"]), float(found["milliseconds"][0])

        first, *others = shapes
        measured = [] if unit_ms is not None else [pool.run(lambda client: ask(client, first))]
        unit_ms = unit_ms or measured[0][0]  # the others are to be told at the pace of the first
        measured += pool.share(others if measured else shapes, ask)
        return unit_ms, [milliseconds for _, milliseconds in measured]

    return costs


class RemoteComparator:
    """`ortrim.runtime.Comparator`: the sessions of the baseline are open over there.

    With several services each has a baseline of its own, and candidates go to them in turn.
    """

    def __init__(
        self,
        baseline: Model,
        device: Device,
        *,
        inputs: Mapping[str, np.ndarray] | None,
        shapes: Shapes | None,
        effort: Effort,
        keep: int,
        seed: int,
    ) -> None:
        self._pool = Pool(device)
        self._baseline, self._inputs = upload_of_model(baseline), upload_of_inputs(inputs)
        self._task = Task(
            "ratios",
            shapes=_plain(shapes),
            seconds=effort.seconds,
            precision=effort.precision,
            rounds=effort.rounds,
            block_ms=effort.block_ms,
            keep=keep,
            seed=seed,
        )
        self._known_ms: dict[str, float] = {}
        self._pool.run(partial(self._ask, candidates=()))  # tells of a baseline that cannot be run

    def ratios(self, candidates: Sequence[Model], limit: float | None = None) -> tuple[Ratio, ...]:
        """Latency of each candidate over that of the baseline, all of a device interleaved."""
        uploads = [upload_of_model(candidate) for candidate in candidates]
        if not uploads:
            return ()
        return tuple(self._pool.run(partial(self._ask, candidates=uploads, limit=limit)))

    def _ask(self, client: Client, candidates: Sequence[Upload], limit: float | None = None) -> list[Ratio]:
        uploads = [self._baseline, *candidates]
        task = replace(
            self._task,
            models=tuple(upload.digest for upload in uploads),
            inputs=None if self._inputs is None else self._inputs.digest,
            known_ms=self._known_ms.get(client.address),
            limit=limit,
        )
        started = time.perf_counter()
        rows = client.run(task, [*uploads, *([] if self._inputs is None else [self._inputs])])
        seconds = time.perf_counter() - started
        ratios = [_addressed_ratio(Ratio.from_dict(row), client.address, seconds) for row in rows]
        if ratios and (task.known_ms is None or ratios[0].baseline.conditions["measured_again"]):
            self._known_ms[client.address] = ratios[0].baseline.median_ms
        return ratios


def _ask(
    device: Device,
    task: Task,
    models: Sequence[Model],
    inputs: Mapping[str, np.ndarray] | None,
    shapes: Shapes | None,
) -> tuple[Any, str]:
    """The result of a task, and the address of who gave it."""
    uploads, fed = [upload_of_model(model) for model in models], upload_of_inputs(inputs)
    task = replace(
        task,
        models=tuple(upload.digest for upload in uploads),
        inputs=None if fed is None else fed.digest,
        shapes=_plain(shapes),
    )
    needed = [*uploads, *([] if fed is None else [fed])]
    return Pool(device).run(lambda client: (client.run(task, needed), client.address))


def _plain(shapes: Shapes | None) -> dict[str, tuple[int, ...]]:
    return {name: tuple(map(int, sizes)) for name, sizes in (shapes or {}).items()}


def _addressed(latency: Latency, address: str, seconds: float | None = None) -> Latency:
    """With the address of the device among its conditions, and what went by beside the measuring itself."""
    conditions = dict(latency.conditions)
    conditions["device"] = {**conditions["device"], "address": address}
    if seconds is not None:
        conditions["transfer_s"] = round(max(0.0, seconds - conditions["seconds"]), 3)
    return replace(latency, conditions=conditions)


def _addressed_ratio(ratio: Ratio, address: str, seconds: float | None = None) -> Ratio:
    baseline, candidate = (_addressed(latency, address, seconds) for latency in (ratio.baseline, ratio.candidate))
    return replace(ratio, baseline=baseline, candidate=candidate)
