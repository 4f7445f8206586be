"""Many candidates against one baseline."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType

import numpy as np

from .bench import Bench
from .device import Device
from .estimate import latency_interval, latency_of, ratio_interval, sampling_interval
from .inputs import Shapes
from .interleave import Effort, Repeat, Runner, collect
from .results import Ratio
from .service.remote import RemoteComparator
from .session import Model, serialized
from .statistics import Interval

__all__ = ["Comparator"]

_DRIFT = 0.05  # five batches on a quiet machine differed by 4 %: more than that is not noise
_CLEARLY_OFF = 0.05  # an interval that is further from the limit says enough
_KEPT_SESSIONS = 3  # of the baseline: more than one placement in memory, without holding a large model six times


class Comparator:
    """Latency ratios to a baseline whose sessions stay open and warm: what a search asks for hundreds of times.

    A candidate costs about `seconds` or less. Where the baseline turns out slower or quicker than it was, the
    candidate is measured a second time; if it still is, the ratio says so in `drifted`, and the new level counts.

    Example:
        with Comparator("model.onnx", Device.parse("cpu:threads=1")) as comparator:
            ratio = comparator.ratio(candidate).value
    """

    def __init__(
        self,
        baseline: Model,
        device: Device,
        *,
        inputs: Mapping[str, np.ndarray] | None = None,
        shapes: Shapes | None = None,
        seconds: float = 1.0,
        precision: float = 0.03,
        seed: int = 0,
        effort: Effort | None = None,
        keep: int = _KEPT_SESSIONS,
    ) -> None:
        """Opens the baseline once, so that one which cannot be run is told before the search.

        Args:
            baseline: path, bytes or model.
            device: where to run.
            inputs: input name -> array; random ones where left out.
            shapes: input name -> shape, for random inputs with dynamic axes.
            seconds: time for a candidate.
            precision: relative width of the interval at which to stop earlier.
            seed: of random inputs and of the order within rounds.
            effort: in place of seconds and precision.
            keep: sessions of the baseline that are held open; with 0 every observation opens a new one.

        Raises:
            ModelError: the model is missing or refused, or the inputs do not fit it.
            DeviceError: the device cannot be opened or cannot run the model.
        """
        self._effort = effort or Effort(seconds, precision, rounds=2, block_ms=8.0)
        self.known_ms: float | None = None
        """The baseline's latency as measured last, or as known from elsewhere: drift is told against it."""
        self._remote: RemoteComparator | None = None
        if device.is_remote:
            self._remote = RemoteComparator(
                baseline, device, inputs=inputs, shapes=shapes, effort=self._effort, keep=keep, seed=seed
            )
            return
        self.baseline = serialized(baseline)
        self._keep = keep
        self._bench = Bench(device, inputs, shapes, seed)
        self._rng = np.random.default_rng(seed)
        self._kept: list[Runner] = [self._bench.open(baseline)]
        self._turn = 0

    def __enter__(self) -> Comparator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the baseline's sessions."""
        if self._remote is None:
            self._kept.clear()

    def ratio(self, candidate: Model, *, limit: float | None = None) -> Ratio:
        """Latency of `candidate` over that of the baseline; arguments and errors as of `ratios`."""
        return self.ratios([candidate], limit=limit)[0]

    def ratios(self, candidates: Sequence[Model], *, limit: float | None = None) -> tuple[Ratio, ...]:
        """Latency of each candidate over that of the baseline, all interleaved; errors as of `Comparator`.

        Args:
            limit: the ratio that is asked for. Candidates that are clearly above or below are cut short: once there are
                observations for an interval, and all intervals lie well away from it.
        """
        if not candidates:
            return ()
        if self._remote is not None:
            return self._remote.ratios(candidates, limit)
        started = time.perf_counter()
        repeats = self._collect(candidates, limit)
        drift = _drift(repeats, self.known_ms)
        again = abs(drift) > _DRIFT
        if again:
            repeats = self._collect(candidates, limit)
            drift = _drift(repeats, self.known_ms)
        if again or self.known_ms is None:
            self.known_ms = latency_interval(repeats, 0).median
        conditions = self._bench.conditions(repeats, time.perf_counter() - started) | {"measured_again": again}
        clock, drifted = self._bench.clock.name, abs(drift) > _DRIFT
        baseline = latency_of(repeats, 0, clock, conditions)
        ratios = []
        for place in range(1, len(candidates) + 1):
            found = ratio_interval(repeats, place, clock)
            candidate = latency_of(repeats, place, clock, conditions)
            ratios.append(
                Ratio(found.median, found.low, found.high, found.confidence, baseline, candidate, drift, drifted)
            )
        return tuple(ratios)

    def _collect(self, candidates: Sequence[Model], limit: float | None) -> list[Repeat]:
        clock = self._bench.clock.name
        places = range(1, len(candidates) + 1)
        candidates = [serialized(candidate) for candidate in candidates]
        return collect(
            [self._open_baseline, *(partial(self._bench.open, candidate) for candidate in candidates)],
            self._effort.times(len(candidates)),
            self._rng,
            lambda done: all(self._settled(sampling_interval(done, place, clock), limit) for place in places),
        )

    def _settled(self, found: Interval, limit: float | None) -> bool:
        """Whether no more needs to be known."""
        if limit is not None and (found.low > limit * (1 + _CLEARLY_OFF) or found.high < limit * (1 - _CLEARLY_OFF)):
            return True
        return found.width <= self._effort.precision

    def _open_baseline(self) -> Runner:
        """One of the kept sessions in turn, or a new one."""
        if self._keep and len(self._kept) == self._keep:
            self._turn = (self._turn + 1) % self._keep
            return self._kept[self._turn]
        runner = self._bench.open(self.baseline)
        if len(self._kept) < self._keep:
            self._kept.append(runner)
        return runner


def _drift(repeats: Sequence[Repeat], known_ms: float | None) -> float:
    """Relative change of the baseline: its last third against its first, or all of it against what is known of it."""
    medians = [blocks[0].median_ms for rounds in repeats for blocks in rounds]
    third = max(1, len(medians) // 3)
    changes = [float(np.median(medians[-third:]) / np.median(medians[:third])) - 1]
    if known_ms is not None:
        changes.append(float(np.median(medians)) / known_ms - 1)
    return max(changes, key=abs)
