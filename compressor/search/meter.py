"""Where latencies come from: a device that measures and writes down, or the record of an earlier run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from ...errors import DeviceError, DeviceSpecError, RunError
from ...graph import ChannelAnalysis
from ...runtime import Comparator, Device, LatencyTable, LayerShape, Ratio, compare
from ..report import DeviceFacts
from .past import HISTORY
from .prediction import Prediction, SizedLayer
from .space import LatencyModel, Widths
from .trials import Trials

__all__ = ["LiveMeter", "Meter", "Quick", "ReplayMeter", "open_meter"]

CONVERSION = "conversion"
"""Key of the record for what converting the original to another precision gives on the device."""
DAMAGE = "damage"
"""Key of the record for what each group is worth, which a replay must not find out anew: threads differ in rounding."""
EQUIVALENT = "equivalent"
"""Key of the record for whether the net is searched in cheaper operators (see `equivalent`)."""
DEVICES = "devices"
"""Key of the record of a run on several devices."""
REPLAY = "replay:"
"""Device specs that begin so name a run directory whose latencies are used again."""
SEARCH_SECONDS = 0.8  # for one candidate; its 95 % interval is then about 2 % wide for a net of 2 ms
FINAL_SECONDS = 8.0
FINAL_PRECISION = 0.01


@dataclass(frozen=True)
class Quick:
    """A candidate's latency as the search sees it."""

    ratio: float
    low: float
    high: float
    baseline_ms: float
    candidate_ms: float
    spent: Mapping[str, float] = field(default_factory=dict)
    """Seconds that measuring took, by what they went to; none where it was measured before."""
    by_device: tuple[float, ...] = ()
    """The ratio on each of several devices; empty where there is one."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """One a device, as measured there."""
        return self.by_device or (self.ratio,)


class Record(Protocol):
    """Where figures are written down: a run's trials, or a part of them."""

    def record(self, key: str, value: Any) -> None: ...  # noqa: ANN401 (anything JSON can hold)

    def recall(self, key: str) -> Any: ...  # noqa: ANN401


class Predicted(LatencyModel, Protocol):
    """The latency of plans before they are measured, and of each group (see `Prediction`)."""

    @property
    def full_ms(self) -> float: ...

    @property
    def layers_by_group(self) -> Mapping[str, tuple[SizedLayer, ...]]: ...

    def group_ms(self, name: str, width: int) -> float: ...

    def relate(self, original: Any, ratios: Sequence[float]) -> None: ...  # noqa: ANN401 (of the same kind)


class Meter(Protocol):
    """Measures candidates against the original."""

    facts: DeviceFacts

    def predict(self, analysis: ChannelAnalysis, shapes: Mapping[str, LayerShape]) -> Predicted:
        """The latency of plans for a net, from the device's table of its layers."""
        ...

    def baseline(self) -> float:
        """The original's latency in milliseconds."""
        ...

    def quick(self, plan: Widths, model: onnx.ModelProto, limit: float | None = None) -> Quick:
        """Ratio of a candidate, good enough for a search; one that is clearly off `limit` is cut short."""
        ...

    def final(
        self, plan: Widths, model: onnx.ModelProto, *, recovered: bool = False, limit: float | None = None
    ) -> Ratio:
        """Ratio of a finalist, as good as the report claims; once more when it is `recovered` and ready to be written.

        A plan is measured once in either state: asked again, the figure is the same.

        Args:
            limit: the ratio that it must keep. A single measurement is off by some percent now and then, on a busy
                machine by tens: what comes out above the limit is measured again before it is turned down, and of
                three the middle one counts.
        """
        ...

    def by_device(self, plan: Widths) -> list[tuple[DeviceFacts, Ratio]]:
        """What `final` found on each of several devices; empty where there is one."""
        ...

    def check(self) -> None:
        """Find out whether the device still runs the original, after it failed at a candidate.

        Raises:
            JobError, InputError: it does not: the candidate was not at fault.
        """
        ...

    def keep_table(self) -> None:
        """Write down the layers' figures, for a replay."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


def _spent(conditions: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of one measurement, by what they went to."""
    opening, warming = conditions["opening_s"], conditions["warming_s"]
    spent = {
        "opening sessions": opening,
        "warming up": warming,
        "measuring": max(0.0, conditions["seconds"] - opening - warming),
    }
    return spent | ({"sending and waiting": conditions["transfer_s"]} if "transfer_s" in conditions else {})


def _key(kind: str, plan: Widths) -> str:
    return f"{kind} {json.dumps(dict(plan), sort_keys=True)}"


def _final_key(plan: Widths, recovered: bool) -> str:
    """Either state has a key of its own: a plan may pass as a finalist and miss the target in the end."""
    return _key("recovered" if recovered else "final", plan)


class LiveMeter:
    """A device; every figure is recorded in the run's trials, so that the run can be replayed."""

    def __init__(
        self,
        original: onnx.ModelProto,
        device: Device,
        inputs: Mapping[str, np.ndarray],
        record: Record,
        cache: Path | None,
        seed: int,
    ) -> None:
        """
        Args:
            inputs: what the models are run on, one sample.
            cache: where figures of layers are kept from run to run; None for this run only.

        Raises:
            ModelError, DeviceError: the original cannot be run on the device.
        """
        self._original, self._device, self._inputs = original, device, inputs
        self._record, self._seed = record, seed
        self._comparator = Comparator(original, device, inputs=inputs, seconds=SEARCH_SECONDS, seed=seed)
        self.table = LatencyTable(device, cache, known=record.recall("table"))
        self._kept = 0
        self._finals: dict[str, Ratio] = {}
        conditions = device.describe()
        self.facts = DeviceFacts(
            str(device), str(conditions["provider"]), str(conditions["onnxruntime"]), str(conditions["cpu"])
        )
        record.record("device", asdict(self.facts))

    def close(self) -> None:
        self._comparator.close()

    def predict(self, analysis: ChannelAnalysis, shapes: Mapping[str, LayerShape]) -> Prediction:
        return Prediction(analysis, shapes, self.table)

    def by_device(self, plan: Widths) -> list[tuple[DeviceFacts, Ratio]]:
        return []

    def baseline(self) -> float:
        known = self._record.recall("baseline")
        if known is None:
            known = self._comparator.ratio(self._original).baseline.median_ms
            self._record.record("baseline", known)
        return float(known)

    def quick(self, plan: Widths, model: onnx.ModelProto, limit: float | None = None) -> Quick:
        self.keep_table()
        found = self._comparator.ratio(model, limit=limit)
        milliseconds = found.baseline.median_ms, found.candidate.median_ms
        return Quick(found.value, found.low, found.high, *milliseconds, _spent(found.candidate.conditions))

    def final(
        self, plan: Widths, model: onnx.ModelProto, *, recovered: bool = False, limit: float | None = None
    ) -> Ratio:
        key = _final_key(plan, recovered)
        if key not in self._finals:
            found = self._compared(model)
            if limit is not None and found.value > limit:
                found = self._again(model, found, limit)
            self._finals[key] = found
            self._record.record(key, found.to_dict())
        return self._finals[key]

    def _again(self, model: onnx.ModelProto, first: Ratio, limit: float) -> Ratio:
        """The middle one of three; where two are above the limit it is too, and the third is spared."""
        found = sorted((first, self._compared(model)), key=lambda one: one.value)
        if found[0].value > limit:
            return found[0]
        return sorted((*found, self._compared(model)), key=lambda one: one.value)[1]

    def _compared(self, model: onnx.ModelProto) -> Ratio:
        return compare(
            self._original,
            model,
            self._device,
            inputs=self._inputs,
            seconds=FINAL_SECONDS,
            precision=FINAL_PRECISION,
            seed=self._seed,
        )

    def check(self) -> None:
        self._comparator.ratio(self._original)

    def keep_table(self) -> None:
        table = self.table.dump()
        if len(table["layers"]) > self._kept:
            self._kept = len(table["layers"])
            self._record.record("table", table)


class ReplayMeter:
    """The latencies of an earlier run: the same seed gives the same plans and scores, bit for bit.

    Raises:
        RunError: no such run, or one that stopped before it measured.
    """

    def __init__(self, run: Path, device: Device, record: Record) -> None:
        self._run = run
        with Trials.open(run / "trials.sqlite") as trials:
            self._known = {
                _key("quick", trial.plan): Quick(
                    trial.ratio,
                    trial.ratio if trial.low is None else trial.low,
                    trial.ratio if trial.high is None else trial.high,
                    trial.baseline_ms or 0.0,
                    trial.candidate_ms or 0.0,
                )
                for trial in trials
            }
            finals = [_final_key(trial.plan, recovered) for trial in trials for recovered in (False, True)]
            self._finals = {key: trials.recall(key) for key in finals}
            device_facts, table, self._baseline = (trials.recall(key) for key in ("device", "table", "baseline"))
            if trials.recall(DEVICES) is not None:
                raise RunError(f"{run} measured on several devices; such a run cannot be replayed")
            conversion, started_from = trials.recall(CONVERSION), trials.recall(HISTORY)
            damage, equivalent = trials.recall(DAMAGE), trials.recall(EQUIVALENT)
        if device_facts is None or table is None or self._baseline is None:
            raise RunError(f"{run}: the run stopped before it measured anything that could be replayed")
        self.facts = DeviceFacts(**device_facts)
        self.table = LatencyTable(device, known=table, replay=True)
        # Runs of earlier versions knew of no other operators.
        record.record(EQUIVALENT, equivalent or {"taken": False})
        for key, value in (("device", device_facts), ("table", table), ("baseline", self._baseline)):
            record.record(key, value)
        if conversion is not None:
            record.record(CONVERSION, conversion)
        if damage is not None:
            record.record(DAMAGE, damage)
        if started_from is not None and record.recall(HISTORY) is None:
            # The agent starts from what it started from then, and nothing of a replay is news.
            record.record(HISTORY, {**started_from, "keep": False})
        self._record = record

    def keep_table(self) -> None:
        """The record has it already."""

    def check(self) -> None:
        """A record is never lost."""

    def close(self) -> None:
        """Nothing is held open."""

    def predict(self, analysis: ChannelAnalysis, shapes: Mapping[str, LayerShape]) -> Prediction:
        return Prediction(analysis, shapes, self.table)

    def by_device(self, plan: Widths) -> list[tuple[DeviceFacts, Ratio]]:
        return []

    def baseline(self) -> float:
        return float(self._baseline)

    def quick(self, plan: Widths, model: onnx.ModelProto, limit: float | None = None) -> Quick:
        found = self._known.get(_key("quick", plan))
        if found is None:
            raise self._unknown("quick")
        if not math.isfinite(found.ratio):
            raise DeviceError(f"{self._run}: this candidate failed there; its log.txt says why")
        return found

    def final(
        self, plan: Widths, model: onnx.ModelProto, *, recovered: bool = False, limit: float | None = None
    ) -> Ratio:
        key = _final_key(plan, recovered)
        found = self._finals.get(key)
        if found is None:  # earlier versions kept one figure for both
            found = self._finals.get(_final_key(plan, recovered=False))
        if found is None:
            raise self._unknown("final")
        self._record.record(key, found)
        return Ratio.from_dict(found)

    def _unknown(self, kind: str) -> RunError:
        return RunError(
            f"{self._run} has no {kind} latency of a plan that came up: replay a run with its own model, data, "
            "settings and seed"
        )


def open_meter(
    spec: str,
    original: onnx.ModelProto,
    inputs: Mapping[str, np.ndarray],
    record: Record,
    cache: Path | None,
    seed: int,
) -> LiveMeter | ReplayMeter:
    """The meter that `--device` names: a device, or `replay:RUN_DIR`.

    Raises:
        DeviceSpecError: no such device.
        RunError: a run that cannot be replayed.
        ModelError, DeviceError: the original cannot be run on the device.
    """
    if not spec.startswith(REPLAY):
        return LiveMeter(original, Device.parse(spec), inputs, record, cache, seed)
    run = Path(spec.removeprefix(REPLAY))
    if not run.is_dir():
        raise DeviceSpecError(f"--device {spec}: {run} is not a run directory")
    return ReplayMeter(run, Device("cpu", threads=1), record)
