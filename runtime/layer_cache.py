"""Where measured layers are kept between runs: one SQLite file, which is rebuilt when it is damaged."""

from __future__ import annotations

import json
import sqlite3
import time
import warnings
from contextlib import closing
from pathlib import Path

from ..errors import OutputError
from .layers import LayerShape

__all__ = ["LayerCache"]

_VERSION = 3
"""Of the table's columns and of how a layer is measured: figures of another version are dropped."""
_CREATE = """CREATE TABLE IF NOT EXISTS layers (
    device TEXT NOT NULL, onnxruntime TEXT NOT NULL, cpu TEXT NOT NULL, shape TEXT NOT NULL,
    milliseconds REAL NOT NULL, measured_at TEXT NOT NULL,
    PRIMARY KEY (device, onnxruntime, cpu, shape)) WITHOUT ROWID"""
_REFERENCE = "reference"
"""Stands in the column of shapes for the one layer that shows the machine's pace (see `pace`)."""
_APPLICATION = 0x6F727432
"""Marks the file as ours, so that another program's database is refused and not taken for an old cache."""
_WAIT_S = 30.0  # for another process that is writing


class LayerCache:
    """Milliseconds by device spec, onnxruntime release, CPU model and layer shape.

    Raises:
        OutputError: a path that cannot be opened or written, or another program's database.
    """

    def __init__(self, path: Path, device: str, release: str, cpu: str) -> None:
        self.path = path
        self._key = (device, release, cpu)
        try:
            self._prepare()
        except sqlite3.OperationalError as error:  # no such folder, read-only: another file would not help
            raise OutputError(f"cache {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._set_aside(error)

    def get(self, shape: LayerShape) -> float | None:
        """The milliseconds of a layer, None where it has not been measured."""
        return self._get(_key_of(shape))

    def put(self, shape: LayerShape, milliseconds: float) -> None:
        """Keeps what was measured, over what was kept before."""
        self._put(_key_of(shape), milliseconds)

    def reference(self) -> float | None:
        """The milliseconds of the reference at the pace of the figures that are kept, None where there are none."""
        return self._get(_REFERENCE)

    def put_reference(self, milliseconds: float) -> None:
        """Keeps the pace of the first figures."""
        self._put(_REFERENCE, milliseconds)

    def _get(self, key: str) -> float | None:
        try:
            with closing(self._connect()) as database:
                query = "SELECT milliseconds FROM layers WHERE device=? AND onnxruntime=? AND cpu=? AND shape=?"
                row = database.execute(query, (*self._key, key)).fetchone()
        except sqlite3.OperationalError as error:
            raise OutputError(f"cache {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            return None
        return None if row is None else float(row[0])

    def _put(self, key: str, milliseconds: float) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row = (*self._key, key, milliseconds, now)
        try:
            self._insert(row)
        except sqlite3.OperationalError as error:
            raise OutputError(f"cache {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            self._insert(row)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_WAIT_S)

    def _insert(self, row: tuple[str | float, ...]) -> None:
        with closing(self._connect()) as database, database:
            database.execute("INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?, ?, ?)", row)

    def _prepare(self) -> None:
        """Creates the table, and checks that the file is sound."""
        with closing(self._connect()) as database, database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            (owner,) = database.execute("PRAGMA application_id").fetchone()
            if owner != _APPLICATION and database.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise OutputError(f"cache {self.path} is another program's database: give another path")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                database.execute("DROP TABLE IF EXISTS layers")
                database.execute(f"PRAGMA application_id = {_APPLICATION}")
                database.execute(f"PRAGMA user_version = {_VERSION}")
            database.execute(_CREATE)

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Renames a damaged file and starts a new one: losing a cache costs minutes, stopping a run costs more."""
        damaged = self.path.with_name(self.path.name + ".damaged")
        warnings.warn(f"cache {self.path} is damaged ({error}): renamed to {damaged.name}, starting anew", stacklevel=3)
        self.path.replace(damaged)
        for suffix in ("-journal", "-wal", "-shm"):  # SQLite would play them back into the new file
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._prepare()


def _key_of(shape: LayerShape) -> str:
    return json.dumps(shape.to_dict(), sort_keys=True)
