"""The record of one search: every candidate, written as it happens, and every measurement that a replay needs.

One SQLite file with a rollback journal and a commit for each entry: what `add` returned for is on disk, whatever
happens to the process after. (A write-ahead log would be faster, but leaves two more files beside a run that was
killed, and a run directory should be safe to copy.)
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...errors import RunError
from ..files import check_output, write_whole
from .reward import better
from .space import Outcome, Widths

__all__ = ["Trial", "Trials"]

APPLICATION = 0x6F72746D  # "ortm", in the file's header: this SQLite file is ours
VERSION = 1  # of the tables below, in the file's header too

TABLES = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE measurements (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials (
    id INTEGER PRIMARY KEY, plan TEXT NOT NULL, score REAL NOT NULL, ratio REAL NOT NULL, low REAL, high REAL,
    baseline_ms REAL, candidate_ms REAL, seconds REAL NOT NULL, created REAL NOT NULL
);
"""


@dataclass(frozen=True)
class Trial:
    """One evaluated candidate."""

    id: int
    """1, 2, ... in the order of the search."""
    plan: dict[str, int]
    """Units kept per group."""
    score: float
    ratio: float
    """Measured latency over the baseline's; infinite where the candidate failed."""
    low: float | None
    """Lower end of the ratio's interval, where it was measured with one."""
    high: float | None
    baseline_ms: float | None
    candidate_ms: float | None
    seconds: float
    """Wall time of the evaluation."""
    created: float
    """Seconds since the epoch."""

    @property
    def outcome(self) -> Outcome:
        """What the agent was told."""
        return Outcome(self.score, self.ratio, self.seconds)

    @property
    def failed(self) -> bool:
        """Whether the candidate could not be scored or measured."""
        return not math.isfinite(self.ratio)


class Trials:
    """The trials of one run. Numbers come back exactly as they went in.

    >>> with Trials.create(path, meta={"agent": "ddpg", "seed": 0}) as trials:
    ...     trials.add(plan, outcome, low=0.58, high=0.61)
    ...     best = trials.best(target=0.6)
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, path: str | Path, meta: Mapping[str, Any] | None = None) -> Trials:
        """A new record with `meta` (values that JSON can hold).

        Raises:
            OutputError: the file exists already, or cannot be written.
        """
        path = check_output(path)
        rows = [(key, json.dumps(value)) for key, value in (meta or {}).items()]
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.executescript(TABLES)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            write_whole(path, connection.serialize(), overwrite=False)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Trials:
        """The record of an earlier run, to read and to continue; what a killed process left half written is undone.

        Raises:
            RunError: no such file, not a record of trials, or one written by another version.
        """
        path = Path(path)
        if not path.is_file():
            raise RunError(f"{path} is not there: no trials to go on from")
        with ExitStack() as on_failure, refusing(path):
            connection = sqlite3.connect(path, isolation_level=None)
            on_failure.callback(connection.close)
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if application != APPLICATION:
                raise RunError(f"{path} is not a record of trials: start a new run in another directory")
            if version != VERSION:
                raise RunError(
                    f"{path} was written by another version of ortrim (format {version}, this one reads {VERSION}): "
                    "start a new run, or use that version"
                )
            on_failure.pop_all()
        return cls(path, connection)

    def add(
        self,
        plan: Widths,
        outcome: Outcome,
        *,
        low: float | None = None,
        high: float | None = None,
        baseline_ms: float | None = None,
        candidate_ms: float | None = None,
    ) -> Trial:
        """Write one trial; it is on disk when this returns.

        Raises:
            ValueError: a number that is not finite; what could not be measured is for `add_failed`.
            RunError: the file can no longer be written.
        """
        numbers = (outcome.score, outcome.ratio, low, high, baseline_ms, candidate_ms, outcome.seconds, time.time())
        floats = tuple(None if number is None else float(number) for number in numbers)
        if not all(number is None or math.isfinite(number) for number in floats):
            raise ValueError(f"a trial needs finite numbers, got {outcome}")
        return self._insert(plan, floats)

    def add_failed(self, plan: Widths, seconds: float) -> Trial:
        """Write down a candidate that could not be scored or measured, so that a continued run does not try it again.

        Raises:
            RunError: the file can no longer be written.
        """
        return self._insert(plan, (0.0, math.inf, None, None, None, None, float(seconds), time.time()))

    def _insert(self, plan: Widths, floats: tuple[float | None, ...]) -> Trial:
        counts = {group: int(kept) for group, kept in plan.items()}
        with refusing(self.path):
            cursor = self._connection.execute(
                "INSERT INTO trials (plan, score, ratio, low, high, baseline_ms, candidate_ms, seconds, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (json.dumps(counts), *floats),
            )
            row = self._connection.execute("SELECT * FROM trials WHERE id = ?", (cursor.lastrowid,)).fetchone()
        return _trial(row)

    def __iter__(self) -> Iterator[Trial]:
        """All trials, first to last."""
        with refusing(self.path):
            rows = self._connection.execute("SELECT * FROM trials ORDER BY id").fetchall()
        return map(_trial, rows)

    def __len__(self) -> int:
        with refusing(self.path):
            return int(self._connection.execute("SELECT COUNT(*) FROM trials").fetchone()[0])

    def best(self, target: float) -> Trial | None:
        """The best trial for `target` as agents rank them; the nearest miss if none meets it; None without trials."""
        best: Trial | None = None
        for trial in self:
            if better(trial.outcome, best.outcome if best else None, target):
                best = trial
        return best

    def record(self, key: str, value: Any) -> None:  # noqa: ANN401 (anything JSON can hold)
        """Keep a measurement (a layer table, a baseline) under `key`; a later value takes the place of an earlier one.

        Raises:
            RunError: the file can no longer be written.
        """
        text = json.dumps(value)
        with refusing(self.path):
            self._connection.execute("INSERT OR REPLACE INTO measurements VALUES (?, ?)", (key, text))

    def recall(self, key: str) -> Any:  # noqa: ANN401
        """The measurement under `key`, or None if there is none."""
        with refusing(self.path):
            row = self._connection.execute("SELECT value FROM measurements WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    @property
    def meta(self) -> dict[str, Any]:
        """What `create` was given: the settings that a continued run must share."""
        with refusing(self.path):
            return {key: json.loads(value) for key, value in self._connection.execute("SELECT * FROM meta")}

    def close(self) -> None:
        """Let go of the file. Nothing is lost without it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _trial(row: tuple[Any, ...]) -> Trial:
    number, plan, *rest = row
    return Trial(number, json.loads(plan), *rest)


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """SQLite's complaints as one line that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise RunError(f"{path} cannot be read or written: {error}") from error
