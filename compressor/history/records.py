"""What is kept of a run, as plain JSON: the same form in the store, in an export and in a run directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import numpy as np
import onnx
from onnx import numpy_helper

from ...errors import RunError
from ..search.past import OldTrial, Past, Source
from ..search.space import Choice, Outcome

__all__ = [
    "RunRecord",
    "feeds_hash",
    "graph_hash",
    "past_from_json",
    "past_to_json",
    "space_from_json",
    "space_to_json",
    "trial_from_json",
    "trial_to_json",
    "weights_hash",
]

Damage = Mapping[str, Mapping[int, float]]


def graph_hash(model: onnx.ModelProto) -> str:
    """Digest of a graph's structure: operators, attributes, wiring and the shapes of weights, whatever their values.

    Names do not count, so that two exports of one architecture are the same graph.
    """
    shapes = {tensor.name: [tensor.data_type, *tensor.dims] for tensor in model.graph.initializer}
    number: dict[str, int] = {}
    digest = hashlib.sha256()
    for value in model.graph.input:
        number[value.name] = len(number)
    for node in model.graph.node:
        reads: list[Any] = [shapes.get(name, number.get(name, -1)) for name in node.input]
        attributes = sorted((a.name, a.type, a.i, a.f, a.s.hex(), list(a.ints), list(a.floats)) for a in node.attribute)
        digest.update(json.dumps([node.domain, node.op_type, reads, attributes]).encode())
        for name in node.output:
            number[name] = len(number)
    return digest.hexdigest()


def weights_hash(model: onnx.ModelProto) -> str:
    """Digest of the values of a graph's weights, in their order: what training leaves, whatever the names."""
    digest = hashlib.sha256()
    for tensor in model.graph.initializer:
        digest.update(f"{tensor.data_type} {list(tensor.dims)} ".encode())
        digest.update(numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()


def feeds_hash(*feeds: Mapping[str, np.ndarray]) -> str:
    """Digest of some inputs of a model, in the order of their names."""
    digest = hashlib.sha256()
    for name, array in (item for part in feeds for item in sorted(part.items())):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def space_to_json(choices: Sequence[Choice], damage: Damage) -> dict[str, Any]:
    """What a search could choose from, as JSON values."""
    return {
        "choices": [asdict(choice) for choice in choices],
        "damage": {group: {str(width): value for width, value in of.items()} for group, of in damage.items()},
    }


def space_from_json(found: Mapping[str, Any]) -> tuple[tuple[Choice, ...], Damage]:
    """What `space_to_json` was given.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is something else.
    """
    choices = tuple(
        Choice(
            str(choice["group"]),
            int(choice["size"]),
            tuple(int(width) for width in choice["widths"]),
            {str(name): float(value) for name, value in choice["features"].items()},
            {int(width): float(value) for width, value in choice["milliseconds"].items()},
            tuple(float(norm) for norm in choice["norms"]),
        )
        for choice in found["choices"]
    )
    damage = {
        str(group): {int(width): float(value) for width, value in of.items()} for group, of in found["damage"].items()
    }
    return choices, damage


@dataclass(frozen=True)
class RunRecord:
    """One search: what it was about, and what it could choose from."""

    uid: str
    created: float
    """Seconds since the epoch."""
    model: str
    """File name, for people."""
    graph: str
    """`graph_hash`."""
    device: str
    """As `--device` names it."""
    cpu: str
    onnxruntime: str
    precision: str
    target: float
    """Of a search for several nets the slowest: every candidate of it was meant to meet this one at least."""
    agent: str
    seed: int
    kind: str
    """Of the score: accuracy or agreement."""
    choices: tuple[Choice, ...] = field(repr=False)
    damage: Damage = field(repr=False)
    weights: str = ""
    """`weights_hash`; not known of runs of earlier versions."""
    images: str = ""
    """`feeds_hash` of some of those that score; not known of runs of earlier versions."""

    @property
    def label(self) -> str:
        """For notes and tables."""
        return f"{self.model} to {self.target:.3g}x on {self.device}"

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("choices", "damage")}
        return plain | space_to_json(self.choices, self.damage)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The record that `to_json` made.

        Raises:
            RunError: it is not one.
        """
        try:
            later = {name: found.get(name, "") for name in ("weights", "images")}
            names = [f.name for f in fields(cls) if f.name not in ("choices", "damage", *later)]
            plain = {name: found[name] for name in names} | later
            choices, damage = space_from_json(found)
            record = cls(**plain, choices=choices, damage=damage)
            record.check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"this is no record of a run ({type(error).__name__}: {error})") from error
        return record

    def check(self) -> None:
        """Refuse what could not have been a search.

        Raises:
            ValueError: values of the wrong type, no choices, a target out of range.
        """
        texts = (self.uid, self.model, self.graph, self.device, self.precision, self.agent, self.kind, self.weights)
        if not all(isinstance(text, str) for text in (*texts, self.images)) or not self.uid:
            raise ValueError("a name is missing")
        if not self.choices or not 0 < float(self.target) <= 1 or not float(self.created) >= 0:
            raise ValueError("choices, target or date are out of range")


def trial_to_json(trial: OldTrial) -> dict[str, Any]:
    """A trial as JSON values."""
    outcome = trial.outcome
    return {
        "row": list(trial.row),
        "score": outcome.score,
        "ratio": outcome.ratio,
        "seconds": outcome.seconds,
        "ahead": [list(pair) for pair in trial.ahead],
    }


def trial_from_json(found: Mapping[str, Any], choices: Sequence[Choice]) -> OldTrial:
    """The trial that `trial_to_json` made.

    Raises:
        RunError: it is not one, or not of a search with these choices.
    """
    try:
        row = tuple(int(width) for width in found["row"])
        ahead = tuple((float(full), float(narrowest)) for full, narrowest in found["ahead"])
        outcome = Outcome(float(found["score"]), float(found["ratio"]), float(found["seconds"]))
        if len(row) != len(choices) or len(ahead) != len(row) + 1:
            raise ValueError(f"{len(row)} widths for {len(choices)} choices")
        if not all(0 <= width <= choice.size for width, choice in zip(row, choices, strict=True)):
            raise ValueError("a width is out of range")
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"this is no trial of the run ({type(error).__name__}: {error})") from error
    return OldTrial(row, outcome, ahead)


def past_to_json(past: Past) -> list[dict[str, Any]]:
    """What a search started from, as JSON values."""
    return [
        {
            "label": source.label,
            "relation": source.relation,
            "target": source.target,
            **space_to_json(source.choices, source.damage),
            "trials": [trial_to_json(trial) for trial in source.trials],
        }
        for source in past.sources
    ]


def past_from_json(found: Sequence[Mapping[str, Any]]) -> Past:
    """What `past_to_json` was given."""
    sources = []
    for entry in found:
        choices, damage = space_from_json(entry)
        trials = tuple(trial_from_json(trial, choices) for trial in entry["trials"])
        sources.append(Source(entry["label"], entry["relation"], entry["target"], choices, damage, trials))
    return Past(tuple(sources))
