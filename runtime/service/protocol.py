"""What client and service say to each other: tasks as JSON, checked field by field before they are used."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

from ...errors import ModelError
from ..layers import LayerShape

__all__ = ["DIGEST", "JOB_ID", "KINDS", "VERSION", "BadTaskError", "Task"]

VERSION = 1
"""Of the messages; a service refuses others."""
DIGEST = re.compile(r"[0-9a-f]{64}")
"""SHA-256 of a model or of inputs: all that a client ever names a file by. To be matched in full."""
JOB_ID = re.compile(r"[0-9a-f]{32}")
"""Chosen by the client, so that it can submit again without asking for two measurements. To be matched in full."""

KINDS = ("measure", "compare", "ratios", "nodes", "explain", "layers")
_MODELS = {
    "measure": (1, 1),
    "compare": (2, 64),
    "ratios": (1, 64),
    "nodes": (1, 1),
    "explain": (1, 1),
    "layers": (0, 0),
}
_MOST_LAYERS = 256
_MOST_SHAPES = 64
_MOST_DIMS = 16
_MOST_ELEMENTS = 2**40
"""Of one input or weight; what memory allows is much less, and the limits of the worker see to that."""
_LONGEST_NAME = 1024
_RANGES: dict[str, tuple[float, float]] = {
    "seconds": (0.0, 86_400.0),
    "precision": (0.0, 10.0),
    "rounds": (1, 1000),
    "block_ms": (0.01, 10_000.0),
    "keep": (0, 8),
    "runs": (1, 10_000),
    "seed": (0, 2**32 - 1),
}
_WHOLE = ("rounds", "keep", "runs", "seed")


class BadTaskError(ValueError):
    """A message that is not what the protocol allows; the text says which part of it."""


@dataclass(frozen=True)
class Task:
    """One measurement to be made."""

    kind: str
    """One of `KINDS`, named after the function of `ortrim.runtime` that the worker calls."""
    models: tuple[str, ...] = ()
    """Hashes of stored models; a baseline comes first, and `ratios` of a baseline alone only opens it."""
    inputs: str | None = None
    """Hash of stored inputs; random ones where there are none."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    layers: tuple[LayerShape, ...] = ()
    seconds: float = 3.0
    """For each model that is compared."""
    precision: float = 0.01
    rounds: int = 4
    block_ms: float = 20.0
    keep: int = 0
    known_ms: float | None = None
    """What the client knows from before, since the worker may have been restarted: of `ratios` the baseline's latency,
    of `layers` what the reference takes at the pace of earlier figures (see `runtime.pace`)."""
    limit: float | None = None
    """Of `ratios`: what the candidates should reach; those that are clearly off are cut short."""
    runs: int = 20
    seed: int = 0

    @property
    def least_seconds(self) -> float:
        """What the task asks to be spent on measuring."""
        if self.kind in ("measure", "compare", "ratios"):
            return self.seconds * max(1, len(self.models) - 1)
        return 0.0

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values that JSON can hold."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: object) -> Task:
        """The task that a message describes.

        Raises:
            BadTaskError: a message that does not describe one.
        """
        if not isinstance(fields, dict) or not set(fields) <= set(Task.__dataclass_fields__):
            raise BadTaskError("a task is an object with the fields of a task")
        kind = fields.get("kind")
        if kind not in KINDS:
            raise BadTaskError(f"kind should be one of {', '.join(KINDS)}")
        inputs, known = fields.get("inputs"), fields.get("known_ms")
        if inputs is not None and not _is_digest(inputs):
            raise BadTaskError("inputs should be a SHA-256 in hexadecimal")
        if known is not None and not _in_range(known, 0.0, 1e9):
            raise BadTaskError("known_ms should be a number of milliseconds")
        limit = fields.get("limit")
        if limit is not None and not _in_range(limit, 0.0, 1e9):
            raise BadTaskError("limit should be a ratio")
        numbers = {name: _number(name, fields[name]) for name in _RANGES if name in fields}
        return Task(
            kind=kind,
            models=_models(kind, fields.get("models", [])),
            inputs=inputs,
            shapes=_shapes(fields.get("shapes", {})),
            layers=_layers(kind, fields.get("layers", [])),
            known_ms=known,
            limit=limit,
            **numbers,
        )


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def _in_range(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _number(name: str, value: Any) -> Any:  # noqa: ANN401 (whatever JSON holds, and an int or a float)
    low, high = _RANGES[name]
    whole = name in _WHOLE
    if not _in_range(value, low, high) or (whole and not isinstance(value, int)) or not math.isfinite(value):
        raise BadTaskError(f"{name} should be a {'whole ' if whole else ''}number from {low:g} to {high:g}")
    return value


def _models(kind: str, value: object) -> tuple[str, ...]:
    fewest, most = _MODELS[kind]
    if not isinstance(value, list) or not fewest <= len(value) <= most or not all(map(_is_digest, value)):
        raise BadTaskError(f"models of {kind} should be {fewest} to {most} SHA-256 in hexadecimal")
    return tuple(value)


def _shapes(value: object) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, dict) or len(value) > _MOST_SHAPES:
        raise BadTaskError(f"shapes should be an object of {_MOST_SHAPES} shapes or fewer")
    for name, sizes in value.items():
        if len(name) > _LONGEST_NAME or not isinstance(sizes, list) or not _are_sizes(sizes):
            raise BadTaskError("a shape should be a list of sizes of 1 or more")
    return {name: tuple(sizes) for name, sizes in value.items()}


def _are_sizes(values: Sequence[object], fewest: int = 1) -> bool:
    if len(values) > _MOST_DIMS or not all(_in_range(v, fewest, 2**31) and isinstance(v, int) for v in values):
        return False
    return prod(max(1, int(str(value))) for value in values) <= _MOST_ELEMENTS


def _layers(kind: str, value: object) -> tuple[LayerShape, ...]:
    if not isinstance(value, list) or len(value) > _MOST_LAYERS or bool(value) != (kind == "layers"):
        raise BadTaskError(f"layers should be a list of {_MOST_LAYERS} layer shapes or fewer")
    return tuple(map(_layer, value))


def _layer(value: object) -> LayerShape:
    if not isinstance(value, dict) or not set(value) <= set(LayerShape.__dataclass_fields__):
        raise BadTaskError("a layer is an object with the fields of a layer shape")
    for name, item in value.items():
        if name in ("op", "activation", "dtype"):
            fits = isinstance(item, str) and len(item) <= _LONGEST_NAME
        else:
            fits = _are_sizes(item if isinstance(item, list) else [item], fewest=0)
        if not fits:
            raise BadTaskError(f"a layer shape has no {name} of that kind or size")
    try:
        shape = LayerShape.from_dict(value)
    except (ModelError, TypeError) as error:
        raise BadTaskError(str(error)) from error
    if prod((shape.c_in, shape.c_out, *shape.kernel)) > _MOST_ELEMENTS:
        raise BadTaskError("a layer shape has a weight that no machine holds")
    return shape
