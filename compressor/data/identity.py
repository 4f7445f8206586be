"""Whether data are still what they were: a run that is resumed must score on the same images."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..files import sha256

__all__ = ["data_identity"]


def data_identity(path: str | Path) -> str:
    """Hexadecimal digest of a file's content; of a folder, that of its file names, their sizes, and what CSV files say.

    An image that is exchanged for one of the same name and size goes unnoticed: reading ten thousand of them to make
    sure would take as long as the resumed run may have left.

    Raises:
        OSError: something cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")):
        content = sha256(file) if file.suffix.lower() == ".csv" else ""
        digest.update(
            f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0{content}\n".encode(errors="replace")
        )
    return digest.hexdigest()
