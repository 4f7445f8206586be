"""A history as a file: one run a line, for another machine or another person."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import RunError
from ..search.past import OldTrial
from .records import RunRecord, trial_from_json, trial_to_json
from .store import History

__all__ = ["export_lines", "import_file"]

FORMAT = "ortrim history 1"
"""In every line, so that a file says what it is."""


def export_lines(history: History, records: Sequence[RunRecord]) -> bytes:
    """The runs with their trials, as JSON, a line each."""
    lines = []
    for record in records:
        trials = [trial_to_json(trial) for trial in history.trials(record)]
        lines.append(json.dumps({"format": FORMAT, **record.to_json(), "trials": trials}))
    return "".join(f"{line}\n" for line in lines).encode()


def import_file(history: History, path: Path) -> tuple[int, int]:
    """Take in the runs of an exported file; those that are there already gain what trials they lack.

    Everything is checked before anything is taken in.

    Returns:
        Runs in the file, and how many of them were new.

    Raises:
        RunError: the file cannot be read or is no export.
    """
    found = list(_read(path))
    known = {record.uid for record in history.records()}
    for record, trials in found:
        history.begin(record)
        for number, trial in enumerate(trials, start=1):
            history.add(record.uid, number, trial)
    return len(found), sum(record.uid not in known for record, _ in found)


def _read(path: Path) -> Iterator[tuple[RunRecord, list[OldTrial]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RunError(f"{path} cannot be read: {reason}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or entry.get("format") != FORMAT:
                raise RunError("it does not say that it is one")
            record = RunRecord.from_json(entry)
            trials = [trial_from_json(trial, record.choices) for trial in entry["trials"]]
        except (json.JSONDecodeError, KeyError, TypeError, RunError) as error:
            raise RunError(f"{path}, line {number}: no run of an ortrim history ({error})") from error
        yield record, trials
