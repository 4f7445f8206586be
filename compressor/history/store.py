"""The store: one SQLite file for all runs of a user, written trial by trial."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ...errors import RunError
from ..search.past import OldTrial
from ..search.trials import refusing
from .records import RunRecord, trial_from_json, trial_to_json

__all__ = ["History", "Summary", "history_path"]

APPLICATION = 0x6F727468  # "orth", in the file's header: this SQLite file is ours
VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS runs (uid TEXT PRIMARY KEY, created REAL NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trials (
    run TEXT NOT NULL REFERENCES runs (uid) ON DELETE CASCADE, number INTEGER NOT NULL, score REAL NOT NULL,
    ratio REAL NOT NULL, trial TEXT NOT NULL, PRIMARY KEY (run, number)
) WITHOUT ROWID;
"""
PATIENCE = 10.0
"""Seconds to wait for another process that writes."""


def history_path() -> Path:
    """The user's store: `ORTRIM_HISTORY`, or `ortrim/history.sqlite` in the data folder (`XDG_DATA_HOME`)."""
    if named := os.environ.get("ORTRIM_HISTORY"):
        return Path(named)
    folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return folder / "ortrim" / "history.sqlite"


@dataclass(frozen=True)
class Summary:
    """One line of a list."""

    record: RunRecord
    trials: int
    best: float | None
    """Best score among the trials that met the target."""
    ratio: float | None
    """That trial's ratio."""


class History:
    """All runs that were kept.

    Example:
        with History.open(history_path()) as history:
            for line in history.summaries():
                print(line.record.label, line.trials)
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """The store at `path`, made if it is not there.

        Raises:
            RunError: it cannot be made or read, is something else, or of another version.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path.parent} cannot be made: {error.strerror}") from error
        with refusing(path):
            connection = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)
        try:
            with refusing(path):
                connection.execute("PRAGMA foreign_keys = ON")
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
                if tables and application != APPLICATION:
                    raise RunError(f"{path} is not a history of ortrim; name another file with ORTRIM_HISTORY")
                if tables and version != VERSION:
                    raise RunError(f"{path} is of another version of ortrim (format {version}); this one has {VERSION}")
                if not tables:
                    connection.executescript(
                        f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION}; "
                        f"PRAGMA user_version = {VERSION}; COMMIT;"
                    )
        except RunError:
            connection.close()
            raise
        return cls(path, connection)

    def begin(self, record: RunRecord) -> None:
        """Put down a run; one that is there already stays as it is.

        Raises:
            RunError: the file can no longer be written.
        """
        with refusing(self.path):
            self._connection.execute(
                "INSERT OR IGNORE INTO runs VALUES (?, ?, ?)",
                (record.uid, record.created, json.dumps(record.to_json())),
            )

    def add(self, uid: str, number: int, trial: OldTrial) -> None:
        """Put down one trial of a run; one of that number that is there already stays as it is.

        Raises:
            RunError: the file can no longer be written.
        """
        outcome = trial.outcome
        with refusing(self.path):
            self._connection.execute(
                "INSERT OR IGNORE INTO trials VALUES (?, ?, ?, ?, ?)",
                (uid, number, outcome.score, outcome.ratio, json.dumps(trial_to_json(trial))),
            )

    def records(self) -> list[RunRecord]:
        """All runs, latest first.

        Raises:
            RunError: the file cannot be read.
        """
        with refusing(self.path):
            rows = self._connection.execute("SELECT record FROM runs ORDER BY created DESC, uid").fetchall()
        return [RunRecord.from_json(json.loads(text)) for (text,) in rows]

    def summaries(self) -> Iterator[Summary]:
        """All runs with what came of them, latest first.

        Raises:
            RunError: the file cannot be read.
        """
        for record in self.records():
            with refusing(self.path), closing(self._connection.cursor()) as cursor:
                (count,) = cursor.execute("SELECT COUNT(*) FROM trials WHERE run = ?", (record.uid,)).fetchone()
                best = cursor.execute(
                    "SELECT score, ratio FROM trials WHERE run = ? AND ratio <= ? ORDER BY score DESC, ratio LIMIT 1",
                    (record.uid, record.target),
                ).fetchone()
            yield Summary(record, count, *(best or (None, None)))

    def trials(self, record: RunRecord) -> list[OldTrial]:
        """The trials of a run, in order.

        Raises:
            RunError: the file cannot be read.
        """
        with refusing(self.path):
            rows = self._connection.execute(
                "SELECT trial FROM trials WHERE run = ? ORDER BY number", (record.uid,)
            ).fetchall()
        return [trial_from_json(json.loads(text), record.choices) for (text,) in rows]

    def find(self, prefix: str) -> RunRecord:
        """The one run whose identifier begins with `prefix`.

        Raises:
            RunError: there is none, or several.
        """
        found = [record for record in self.records() if record.uid.startswith(prefix)]
        if len(found) != 1:
            what = "no run" if not found else f"{len(found)} runs"
            raise RunError(f"{what} in {self.path} whose identifier begins with {prefix!r}; see ortrim history")
        return found[0]

    def remove(self, uids: Sequence[str]) -> int:
        """Forget runs and their trials; how many there were.

        Raises:
            RunError: the file can no longer be written.
        """
        with refusing(self.path):
            removed = self._connection.executemany("DELETE FROM runs WHERE uid = ?", [(uid,) for uid in uids]).rowcount
            self._connection.execute("VACUUM")
        return removed

    def close(self) -> None:
        """Let go of the file. Nothing is lost without it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
