"""Output files: asked about before the work begins, and written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from ..errors import OutputError
from ..graph import weight_files

__all__ = ["check_output", "sha256", "write_whole"]


def check_output(path: str | Path, force: bool = False, inputs: Iterable[str | Path] = ()) -> Path:
    """The path, when a file can be written there. Writes nothing; meant for the moment before a long job.

    Missing parent folders are fine: `write_whole` makes them.

    Args:
        force: the user allows an existing file to be replaced.
        inputs: what the job reads, which may not be its output even with `force`: models with the files that hold their
            weights, other files, folders with all that is in them.

    Raises:
        OutputError: the file exists and `force` is not given, it is a folder or a device or one of `inputs`, or its
            folder cannot be written.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode if path.exists() else None
        if mode is not None and stat.S_ISDIR(mode):
            raise OutputError(f"output {path} is a folder: name a file")
        if mode is not None and not stat.S_ISREG(mode):
            raise OutputError(f"output {path} is not a regular file")
        for source in inputs if mode is not None else ():
            if _belongs_to(path, Path(source)):
                raise OutputError(f"output {path} is also an input: name another file")
        if mode is not None and not force:
            raise OutputError(f"output {path} exists already: name another file, or replace it with --force")
        folder = _nearest_existing(path.absolute().parent)
    except (OSError, ValueError) as error:
        raise OutputError(f"output {path} cannot be written: {_reason(error)}") from error
    if not folder.is_dir():
        raise OutputError(f"output {path} cannot be written: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"output {path} cannot be written: no permission to write in {folder}")
    return path


def write_whole(path: str | Path, content: bytes | Callable[[BinaryIO], object], overwrite: bool = True) -> Path:
    """Write a file so that readers see the old one or the whole new one, whatever happens in between.

    The content goes to a hidden file in the same folder, is flushed to the disk and takes its name in one step. On any
    failure, an interruption included, the hidden file is removed. A symbolic link is followed, not replaced.

    Args:
        content: the bytes, or a function that writes them to the open file.
        overwrite: False refuses a file that has appeared since `check_output` looked.

    Raises:
        OutputError: the file cannot be written, or exists and `overwrite` is False.
    """
    path = Path(path)
    place = Path(os.path.realpath(path))
    part = place.with_name(f".{place.name[:40]}.{secrets.token_hex(6)}.part")
    try:
        if place.exists() and not place.is_file():
            raise OutputError(f"output {path} is not a regular file")
        place.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are private (0600), and an output should get the permissions that others do.
        with open(part, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            part.replace(place)
        else:
            _rename_new(part, place)
        _sync_folder(place.parent)
    except OSError as error:
        raise OutputError(f"output {path} cannot be written: {_reason(error)}") from error
    finally:
        # Where it could not be made (a parent that is a file, a name too long) there is nothing to remove.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def sha256(source: str | Path | bytes) -> str:
    """Hexadecimal SHA-256 of a file or of bytes.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _belongs_to(path: Path, source: Path) -> bool:
    """Whether an existing file is, or is part of, what a job reads."""
    if not source.exists():
        return False
    if source.is_dir():
        # A folder of images may hold models too: those are no data.
        return path.suffix != ".onnx" and path.resolve().is_relative_to(source.resolve())
    files = (source, *(weight_files(source) if source.suffix == ".onnx" else ()))
    return any(file.exists() and path.samefile(file) for file in files)


def _nearest_existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _rename_new(part: Path, place: Path) -> None:
    """Give `part` the name `place`, which must be free; hard links make look and rename one step."""
    try:
        os.link(part, place)
    except FileExistsError as error:
        raise OutputError(f"output {place} appeared while the job ran: replace it with --force") from error
    except OSError:  # A file system without hard links.
        if place.exists():
            raise OutputError(f"output {place} appeared while the job ran: replace it with --force") from None
        part.replace(place)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut; Windows cannot open folders and does not need it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
