"""Which earlier runs help a new one, nearest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..search.past import OldTrial, Past, Relation, Source
from ..search.space import Choice
from .records import RunRecord

__all__ = ["choose", "likeness", "relation"]

LEAST_TRIALS = 10
"""A run that was cut off earlier than that has little to say."""
MOST_SOURCES = 4
NEAR = 0.005
"""Targets that differ by less are one target."""
_ORDER: tuple[Relation, ...] = ("memory", "target", "device", "model")
_COMPARED = ("c_in", "c_out", "kernel", "stride", "macs", "latency")


def relation(old: RunRecord, new: RunRecord) -> Relation:
    """What differs between two searches, the most telling difference first."""
    if old.graph != new.graph or [(c.group, c.size) for c in old.choices] != [(c.group, c.size) for c in new.choices]:
        return "model"
    if (old.device, old.cpu, old.precision) != (new.device, new.cpu, new.precision):
        return "device"
    return "memory" if abs(old.target - new.target) < NEAR else "target"


def likeness(a: Sequence[Choice], b: Sequence[Choice]) -> float:
    """How alike the groups of two nets are, 1 for the same: by the spread of what is known of them, not by their order.

    Mean distance of the quantiles of each feature's logarithm, as exp(-distance).
    """
    places = np.linspace(0.05, 0.95, 7)
    distances = []
    for name in _COMPARED:
        sides = [np.log1p([choice.features.get(name, 0.0) for choice in choices]) for choices in (a, b)]
        distances.append(float(np.abs(np.quantile(sides[0], places) - np.quantile(sides[1], places)).mean()))
    return float(np.exp(-np.mean(distances)))


def choose(
    records: Sequence[RunRecord], new: RunRecord, trials_of: Callable[[RunRecord], Sequence[OldTrial]]
) -> Past | None:
    """The runs to start from; None where nothing that is there would help.

    Runs of another kind of score are left out: an agreement is no accuracy. Of the others the nearest come first: the
    same search, another target, another device, then other models, the most alike first; of equals the latest.
    """
    candidates = [record for record in records if record.uid != new.uid and record.kind == new.kind]

    def nearness(record: RunRecord) -> tuple[int, float, float]:
        kind = relation(record, new)
        alike = likeness(record.choices, new.choices) if kind == "model" else -abs(record.target - new.target)
        return _ORDER.index(kind), -alike, -record.created

    sources: list[Source] = []
    for record in sorted(candidates, key=nearness):
        if len(sources) == MOST_SOURCES:
            break
        trials = [trial for trial in trials_of(record) if np.isfinite(trial.outcome.ratio)]
        if len(trials) >= LEAST_TRIALS:
            sources.append(
                Source(
                    record.label,
                    relation(record, new),
                    record.target,
                    record.choices,
                    record.damage,
                    tuple(trials),
                )
            )
    return Past(tuple(sources)) if sources else None
