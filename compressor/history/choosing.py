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
LEAST_LIKENESS = 0.8
"""What another model must reach. Of 17 nets, from digits to detectors, three CIFAR ResNets were 0.86 to 0.93 like each
other and 4 of the other 133 pairs above 0.8, small detectors of one size; ResNet-20 and MobileNetV2 were at 0.44. A net
that is less alike says nothing of the new one's groups, and its trials would be worse than none."""
_ORDER: tuple[Relation, ...] = ("memory", "target", "device", "images", "weights", "model")
_COMPARED = ("c_in", "c_out", "kernel", "stride", "macs", "latency")


def relation(old: RunRecord, new: RunRecord) -> Relation:
    """What differs between two searches, the most telling difference first."""
    if old.graph != new.graph or [(c.group, c.size) for c in old.choices] != [(c.group, c.size) for c in new.choices]:
        return "model"
    # Where a digest is not known, nothing says that they are the same.
    if not old.weights or old.weights != new.weights:
        return "weights"
    if not old.images or old.images != new.images:
        return "images"
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

    Runs of another kind of score are left out, since an agreement is no accuracy, and so are models that are not like
    this one. Of the others the nearest come first: the same search, another target, another device, other images, other
    weights, then other models, the most alike first; of equals the latest.
    """
    near: list[tuple[int, float, float, int]] = []
    for place, record in enumerate(records):
        if record.uid == new.uid or record.kind != new.kind:
            continue
        kind = relation(record, new)
        alike = likeness(record.choices, new.choices) if kind == "model" else 1.0
        if alike >= LEAST_LIKENESS:
            further = -alike if kind == "model" else abs(record.target - new.target)
            near.append((_ORDER.index(kind), further, -record.created, place))

    sources: list[Source] = []
    for *_, place in sorted(near):
        record = records[place]
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
