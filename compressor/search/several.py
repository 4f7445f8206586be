"""Several devices at once: a plan counts as its worst device does, so that what meets the target meets it on each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import onnx

from ...graph import ChannelAnalysis
from ...runtime import LayerShape, Ratio
from ..report import DeviceFacts
from .meter import DEVICES, Meter, Predicted, Quick, Record
from .prediction import SizedLayer
from .space import Widths

__all__ = ["Named", "SeveralMeters", "SeveralPredictions"]


class Named:
    """Part of a run's record: every key has a name before it."""

    def __init__(self, record: Record, name: str) -> None:
        self._record, self._name = record, name

    def record(self, key: str, value: Any) -> None:  # noqa: ANN401 (anything JSON can hold)
        self._record.record(f"{self._name} {key}", value)

    def recall(self, key: str) -> Any:  # noqa: ANN401
        return self._record.recall(f"{self._name} {key}")


class SeveralPredictions:
    """Predictions for several devices, as one.

    Args:
        parts: one a device.
        scales: what a ratio on each device counts, in terms of the first one's target.
    """

    def __init__(self, parts: Sequence[Predicted], scales: Sequence[float]) -> None:
        self.parts, self.scales = tuple(parts), tuple(scales)

    @property
    def full_ms(self) -> float:
        """The whole net on the first device."""
        return self.parts[0].full_ms

    @property
    def layers_by_group(self) -> Mapping[str, tuple[SizedLayer, ...]]:
        return self.parts[0].layers_by_group

    def group_ms(self, name: str, width: int) -> float:
        """What a group costs at a width: its mean share of the net over the devices, in terms of the first one's time.

        A width is a step where it is one on average: what is slow on one device must be quick on another to be offered.
        """
        shares = [part.group_ms(name, width) / part.full_ms for part in self.parts if part.full_ms > 0]
        return self.full_ms * sum(shares) / max(1, len(shares))

    def ratio(self, widths: Widths) -> float:
        """The worst of the predicted ratios."""
        return max(scale * part.ratio(widths) for part, scale in zip(self.parts, self.scales, strict=True))

    def relate(self, original: SeveralPredictions, ratios: Sequence[float]) -> None:
        """See `Prediction.relate`.

        Args:
            ratios: one a device, as measured there: scales count when ratios are compared. One alone is meant for all.
        """
        each = ratios if len(ratios) > 1 else [*ratios] * len(self.parts)
        for part, whole, ratio in zip(self.parts, original.parts, each, strict=True):
            part.relate(whole, [ratio])


class SeveralMeters:
    """Meters of several devices, as one (a `Meter`).

    Args:
        meters: one a device, the first of them with the run's own record.
        targets: of each device, as ratios; all the same, unless the target was given in milliseconds.
        record: the run's.
    """

    def __init__(self, meters: Sequence[Meter], targets: Sequence[float], record: Record) -> None:
        self.meters = tuple(meters)
        self.scales = tuple(targets[0] / target for target in targets)
        self.facts = DeviceFacts(*(" + ".join(parts) for parts in zip(*(_texts(m.facts) for m in meters), strict=True)))
        self._record = record
        self._finals: dict[str, list[Ratio]] = {}
        self._recovered: set[str] = set()
        """Plans whose last word is in `_finals`: what is written, not the finalist that it was."""
        record.record(DEVICES, [asdict(meter.facts) for meter in meters])

    def baseline(self) -> float:
        return self.meters[0].baseline()

    def predict(self, analysis: ChannelAnalysis, shapes: Mapping[str, LayerShape]) -> SeveralPredictions:
        return SeveralPredictions([meter.predict(analysis, shapes) for meter in self.meters], self.scales)

    def quick(self, plan: Widths, model: onnx.ModelProto, limit: float | None = None) -> Quick:
        found, spent, by_device = [], {}, []
        for meter, scale in zip(self.meters, self.scales, strict=True):
            one = meter.quick(plan, model, None if limit is None else limit / scale)
            for name, seconds in one.spent.items():
                spent[name] = spent.get(name, 0.0) + seconds
            by_device.append(one.ratio)
            found.append(replace(one, ratio=scale * one.ratio, low=scale * one.low, high=scale * one.high))
        return replace(max(found, key=lambda one: one.ratio), spent=spent, by_device=tuple(by_device))

    def final(
        self, plan: Widths, model: onnx.ModelProto, *, recovered: bool = False, limit: float | None = None
    ) -> Ratio:
        """The worst device's ratio, in terms of the first one's target."""
        found = [
            meter.final(plan, model, recovered=recovered, limit=None if limit is None else limit / scale)
            for meter, scale in zip(self.meters, self.scales, strict=True)
        ]
        if recovered or _key(plan) not in self._recovered:
            self._finals[_key(plan)] = found
        if recovered:
            self._recovered.add(_key(plan))
        scaled = [
            replace(one, value=scale * one.value, low=scale * one.low, high=scale * one.high)
            for one, scale in zip(found, self.scales, strict=True)
        ]
        return max(scaled, key=lambda one: one.value)

    def by_device(self, plan: Widths) -> list[tuple[DeviceFacts, Ratio]]:
        found = self._finals.get(_key(plan), [])
        return [(meter.facts, one) for meter, one in zip(self.meters, found, strict=False)]

    def check(self) -> None:
        for meter in self.meters:
            meter.check()

    def keep_table(self) -> None:
        for meter in self.meters:
            meter.keep_table()

    def close(self) -> None:
        for meter in self.meters:
            meter.close()


def _texts(facts: DeviceFacts) -> tuple[str, str, str, str]:
    return facts.spec, facts.provider, facts.onnxruntime, facts.cpu


def _key(plan: Widths) -> str:
    return json.dumps(dict(plan), sort_keys=True)
