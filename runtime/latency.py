"""`measure` and `compare`: the figures that ortrim promises."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .bench import Bench
from .comparator import Comparator
from .device import Device
from .estimate import latency_interval, latency_of
from .inputs import Shapes
from .interleave import Effort, collect
from .node_profile import nodes_by_provider
from .results import Latency, Ratio
from .service import remote
from .session import Model, serialized

__all__ = ["compare", "compare_many", "measure"]

_ROUNDS = 4
_BLOCK_MS = 20.0


def measure(
    model: Model,
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Shapes | None = None,
    seconds: float = 3.0,
    precision: float = 0.01,
    seed: int = 0,
) -> Latency:
    """Latency of `model` on `device`.

    Args:
        model: path, bytes or model.
        device: where to run.
        inputs: input name -> array; random ones where left out.
        shapes: input name -> shape, for random inputs with dynamic axes.
        seconds: time to spend; a guide, since six observations are always made.
        precision: relative width of the interval of the median at which to stop earlier.
        seed: of random inputs.

    Raises:
        ModelError: the model is missing or refused, or the inputs do not fit it.
        DeviceError: the device cannot be opened or cannot run the model.
    """
    if device.is_remote:
        return remote.measure(
            model, device, inputs=inputs, shapes=shapes, seconds=seconds, precision=precision, seed=seed
        )
    started = time.perf_counter()
    model = serialized(model)
    bench = Bench(device, inputs, shapes, seed)
    bench.open(model)  # the first warm-up is a long one, and no part of what opening a session costs
    repeats = collect(
        [lambda: bench.open(model)],
        Effort(seconds, precision, _ROUNDS, _BLOCK_MS),
        np.random.default_rng(seed),
        lambda done: latency_interval(done, 0).width <= precision,
    )
    providers = nodes_by_provider(model, device, inputs=inputs, shapes=shapes, seed=seed)
    conditions = bench.conditions(repeats, time.perf_counter() - started) | {"providers": providers}
    return latency_of(repeats, 0, bench.clock.name, conditions)


def compare(
    baseline: Model,
    candidate: Model,
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Shapes | None = None,
    seconds: float = 10.0,
    precision: float = 0.01,
    seed: int = 0,
) -> Ratio:
    """Latency of `candidate` over that of `baseline`, interleaved; arguments and errors as of `measure`."""
    return compare_many(
        baseline, [candidate], device, inputs=inputs, shapes=shapes, seconds=seconds, precision=precision, seed=seed
    )[0]


def compare_many(
    baseline: Model,
    candidates: Sequence[Model],
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Shapes | None = None,
    seconds: float = 10.0,
    precision: float = 0.01,
    seed: int = 0,
) -> tuple[Ratio, ...]:
    """Latency of each candidate over that of `baseline`, all interleaved; arguments and errors as of `measure`.

    `seconds` is for each candidate; every observation opens fresh sessions of all models.
    """
    if device.is_remote:
        models = [baseline, *candidates]
        return remote.compare_many(
            models, device, inputs=inputs, shapes=shapes, seconds=seconds, precision=precision, seed=seed
        )
    effort = Effort(seconds, precision, _ROUNDS, _BLOCK_MS)
    with Comparator(baseline, device, inputs=inputs, shapes=shapes, seed=seed, effort=effort, keep=0) as comparator:
        ratios = comparator.ratios(candidates)
    if not ratios:
        return ()

    def with_providers(latency: Latency, model: Model) -> Latency:
        own = nodes_by_provider(model, device, inputs=inputs, shapes=shapes, seed=seed)
        return replace(latency, conditions={**latency.conditions, "providers": own})

    base = with_providers(ratios[0].baseline, baseline)
    return tuple(
        replace(ratio, baseline=base, candidate=with_providers(ratio.candidate, candidate))
        for ratio, candidate in zip(ratios, candidates, strict=True)
    )
