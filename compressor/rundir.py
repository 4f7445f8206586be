"""The run directory: one door for everything that a run writes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from ..errors import OutputError, RunError
from .files import write_whole

__all__ = ["RunDirectory"]

_SETTINGS = "settings.json"
_LOCK = ".lock"
_PART = ".*.part"
"""What `write_whole` leaves when the process is killed while it writes."""
_OWN = (
    "report.html",
    "report.json",
    "trials.sqlite",
    "slim.onnx",
    "refitted.onnx",
    "checkpoint.pt",
    "log.txt",
    _SETTINGS,
)
_OWN_PATTERNS = (*_OWN, "trials.sqlite-*", _PART)


class RunDirectory:
    """Paths of one run, and the lock that keeps a second process out while it is open for writing.

    Example:
        with RunDirectory.start("runs/first", {"seed": 0}, resume=True) as run:
            run.write("report.json", content)
    """

    def __init__(self, path: Path, lock: FileLock | None = None, resumed: bool = False) -> None:
        self.path = path
        self.resumed = resumed
        """Whether this continues a run that was there."""
        self.report_html = path / "report.html"
        self.report_json = path / "report.json"
        self.trials = path / "trials.sqlite"
        self.slim = path / "slim.onnx"
        self.refitted = path / "refitted.onnx"
        """What fine-tuning began with; of a front, the net that was taught last."""
        self.checkpoint = path / "checkpoint.pt"
        """Of fine-tuning, while it goes on."""
        self.log = path / "log.txt"
        self._lock = lock
        self._handler: logging.Handler | None = None
        self._level = logging.NOTSET

    @classmethod
    def start(
        cls,
        path: str | Path,
        settings: Mapping[str, Any],
        *,
        resume: bool = False,
        force: bool = False,
        may_change: Collection[str] = (),
    ) -> Self:
        """Lock the directory for a new run, or for going on with the run that is there.

        Args:
            settings: what decides the course of the run (model hash, target, device, seed, agent, ...), as JSON values.
                Stored as `settings.json`; when resuming they must be the same as before.
            resume: go on with the run in `path`. One that was killed before it stored its settings starts afresh.
            force: a new run may replace the one in `path`; files that ortrim does not write are left alone.
            may_change: settings that may differ when resuming; the new values are stored.

        Raises:
            OutputError: the directory cannot be written, or holds something and neither `resume` nor `force` is given.
            RunError: another process uses it, there is nothing to resume, or a setting differs.
        """
        path = Path(path)
        if resume and not path.is_dir():
            raise RunError(f"run directory {path} does not exist: there is nothing to --resume")
        with ExitStack() as on_failure:
            lock = _locked(path)
            on_failure.callback((path / _LOCK).unlink, missing_ok=True)  # refused: nothing of ours stays
            on_failure.callback(lock.release)
            try:
                resumed = _make_ready(path, settings, resume, force, may_change)
            except OSError as error:
                raise _unwritable(path, error) from error
            on_failure.pop_all()
        return cls(path, lock, resumed)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The run in `path`, for reading; it may be going on.

        Raises:
            RunError: there is no run.
        """
        path = Path(path)
        if not (path / _SETTINGS).is_file():
            raise RunError(f"{path} is not a run directory: it has no {_SETTINGS}")
        return cls(path)

    def settings(self) -> dict[str, Any]:
        """What the run was started with.

        Raises:
            RunError: `settings.json` cannot be read.
        """
        return _read_settings(self.path)

    def write(self, name: str, content: bytes) -> Path:
        """One of the run's files, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        if name not in _OWN:
            raise OutputError(f"{name} is not a file of a run directory ({', '.join(_OWN)})")
        return write_whole(self.path / name, content)

    def part(self, name: str) -> Path:
        """A folder in the run directory for another net of the run, made if it is not there.

        Raises:
            OutputError: it cannot be made.
        """
        folder = self.path / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        return folder

    def discard(self) -> None:
        """Remove what this run wrote, and the directory if nothing else is in it: nothing came of the run."""
        self.close()
        for entry in (*_own_files(self.path), self.path / _LOCK):
            entry.unlink(missing_ok=True)
        with suppress(OSError):  # something of somebody else's is in it
            self.path.rmdir()

    def close(self) -> None:
        """Let others use the directory; the log ends here."""
        if self._handler is not None:
            logging.getLogger("ortrim").removeHandler(self._handler)
            logging.getLogger("ortrim").setLevel(self._level)
            self._handler.close()
            self._handler = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        """From here on, what ortrim logs (INFO and above) goes to `log.txt` too, after what was there."""
        if self._lock is not None:
            handler = logging.FileHandler(self.log, encoding="utf-8", delay=True)
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
            handler.setLevel(logging.INFO)
            log = logging.getLogger("ortrim")
            log.addHandler(handler)
            self._handler, self._level = handler, log.level
            if log.getEffectiveLevel() > logging.INFO:  # nobody else listens: the file still should
                log.setLevel(logging.INFO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _locked(path: Path) -> FileLock:
    """The lock of the directory, taken; the system lets go of it when the process dies."""
    lock = FileLock(path / _LOCK, timeout=0)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RunError(f"run directory {path} is in use by another process") from error
    except OSError as error:
        raise _unwritable(path, error) from error
    return lock


def _make_ready(
    path: Path, settings: Mapping[str, Any], resume: bool, force: bool, may_change: Collection[str]
) -> bool:
    """Clear and store what `RunDirectory.start` says. Returns whether a run is resumed."""
    held = {entry.name for entry in path.iterdir()} - {_LOCK}
    foreign = sorted(held - {entry.name for entry in _own_files(path)})
    resumed = resume and _SETTINGS in held
    if resume and foreign and not resumed:
        raise RunError(f"{path} holds no run to --resume (but {foreign[0]})")
    if held and not (resume or force):
        raise OutputError(
            f"run directory {path} is not empty: go on with --resume, replace it with --force, or name another"
        )
    if resumed:
        _check_settings(path, settings, may_change)
    for entry in path.glob(_PART) if resumed else _own_files(path):
        entry.unlink(missing_ok=True)
    write_whole(path / _SETTINGS, _as_json(settings))
    return resumed


def _own_files(path: Path) -> list[Path]:
    return [entry for pattern in _OWN_PATTERNS for entry in path.glob(pattern) if not entry.is_dir()]


def _check_settings(path: Path, settings: Mapping[str, Any], may_change: Collection[str]) -> None:
    before, now = _read_settings(path), json.loads(_as_json(settings))
    for key in [*before, *(key for key in now if key not in before)]:
        if key not in may_change and before.get(key) != now.get(key):
            name, old, new = _difference(key, before.get(key), now.get(key))
            raise RunError(
                f"the run in {path} was started with {name} {_short(old)}, not {_short(new)}: "
                "--resume it with the same settings, or choose another --run-dir"
            )


def _difference(name: str, before: object, now: object) -> tuple[str, object, object]:
    """The first setting that differs; of settings within settings, which one of them."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            if before.get(key) != now.get(key):
                return _difference(f"{name} {key}", before.get(key), now.get(key))
    return name, before, now


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads((path / _SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path / _SETTINGS} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, dict):
        raise RunError(f"{path / _SETTINGS} cannot be read: it holds no settings")
    return settings


def _as_json(settings: Mapping[str, Any]) -> bytes:
    return (json.dumps(dict(settings), indent=2, ensure_ascii=False) + "\n").encode()


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"run directory {path} cannot be written: {error.strerror or os.strerror(error.errno or 0)}")
