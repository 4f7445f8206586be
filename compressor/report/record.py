"""`report.json`: the facts of a run as other programs read them, and as `ortrim report` reads them back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from ...errors import RunError
from .content import (
    ClassFacts,
    DeviceFacts,
    DeviceLatencyFacts,
    FrontFacts,
    FrozenFacts,
    GroupFacts,
    LatencyFacts,
    ModelFacts,
    ReportData,
    ScoreFacts,
    SearchFacts,
    SpentFacts,
    StageFacts,
    StaircaseFacts,
    TargetFacts,
    TrialFacts,
)

__all__ = ["from_json", "read_report", "to_json"]

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Facts = TypeVar("Facts", bound="DataclassInstance")

_SINGLE = {
    "model": ModelFacts,
    "slim": ModelFacts,
    "device": DeviceFacts,
    "target": TargetFacts,
    "latency": LatencyFacts,
    "score": ScoreFacts,
    "search": SearchFacts,
}
_LISTS = {
    "stages": StageFacts,
    "spent": SpentFacts,
    "classes": ClassFacts,
    "frozen": FrozenFacts,
    "front": FrontFacts,
    "devices": DeviceLatencyFacts,
    "staircases": StaircaseFacts,
}


def to_json(data: ReportData) -> bytes:
    """The report as JSON; its groups become the object `plan`, in graph order."""
    record = asdict(data)
    groups = record.pop("groups")
    for trial in record["trials"]:
        # JSON has no NaN, which is what a trial has that could not be measured.
        trial.update({key: None for key in ("score", "ratio") if not math.isfinite(trial[key])})
    record["plan"] = {group["name"]: {"size": group["size"], "kept": group["kept"]} for group in groups}
    return (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def from_json(content: bytes) -> ReportData:
    """What `to_json` wrote. Unknown keys are ignored, so that older programs read newer reports.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not such a report.
    """
    record = json.loads(content)
    known: dict[str, Any] = {key: _facts(kind, record[key]) for key, kind in _SINGLE.items()}
    for key, kind in _LISTS.items():
        known[key] = tuple(_facts(kind, item) for item in record.get(key, ()))
    known["trials"] = tuple(
        TrialFacts(
            int(trial["episode"]), *(math.nan if trial[key] is None else trial[key] for key in ("score", "ratio"))
        )
        for trial in record.get("trials", ())
    )
    known["groups"] = tuple(GroupFacts(name, int(g["size"]), int(g["kept"])) for name, g in record["plan"].items())
    for key in ("settings", "versions"):
        known[key] = dict(record.get(key, {}))
    known["notes"] = tuple(record.get("notes", ()))
    return ReportData(ortrim=record["ortrim"], created=record.get("created", ""), **known)


def read_report(path: str | Path) -> ReportData:
    """The report of a finished run.

    Raises:
        RunError: no such file, or it is no report.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist: has the run ended? Go on with --resume") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return from_json(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if b'"kind": "plain training"' in content:
            raise RunError(
                f"{path} is of a net that was not pruned (--no-prune): it has the figures, and no page"
            ) from error
        raise RunError(f"{path} is not a report of ortrim: {' '.join(str(error).split())}") from error


def _facts(kind: type[Facts], values: Mapping[str, Any]) -> Facts:
    hints = get_type_hints(kind)
    known = {field.name: values[field.name] for field in fields(kind) if field.name in values}
    for name, value in known.items():
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} is {value!r}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()})


def _fits(value: object, hint: object) -> bool:
    """Whether a JSON value is what a field holds: a text, a number, a list of numbers, perhaps nothing."""
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    kinds = {kind for kind in get_args(hint) or (hint,) if isinstance(kind, type)}
    return isinstance(value, tuple(kinds | {int} if float in kinds else kinds))
