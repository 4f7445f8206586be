"""Which images a folder holds, and their labels: class folders, `labels.csv`, or images alone."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from ...errors import DataError

__all__ = ["FolderIndex", "list_folder"]

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


@dataclass(frozen=True, eq=False)
class FolderIndex:
    """The image files of a folder, in a stable order, before any is decoded."""

    files: tuple[Path, ...]
    labels: np.ndarray | None
    """int64 (files,)."""
    class_names: tuple[str, ...] = ()
    """Names of the class folders where their sorted order gives the labels."""

    def subset(self, indices: np.ndarray) -> Self:
        files = tuple(self.files[i] for i in indices)
        return replace(self, files=files, labels=None if self.labels is None else self.labels[indices])


def list_folder(folder: Path) -> FolderIndex:
    """The images of `folder` and their labels, by what it holds.

    - `labels.csv` with the columns `file` and `label`: the files it names;
    - folders with images: one a class. Where every name is a number, it is the label; otherwise labels count the names
      in sorted order, as torchvision's ImageFolder does;
    - images alone: no labels.

    Raises:
        DataError: no images, or something in the folder contradicts itself; the message names it.
    """
    try:
        if (folder / "labels.csv").exists():
            return _from_csv(folder, folder / "labels.csv")
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__")))
        alone = tuple(entry for entry in entries if _is_image(entry))
        classes = {entry: tuple(sorted(filter(_is_image, entry.rglob("*")))) for entry in entries if entry.is_dir()}
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
    if alone and any(classes.values()):
        raise DataError(f"{folder} holds images both beside and inside its folders: use one of the two")
    if alone:
        return FolderIndex(alone, None)
    if not any(classes.values()):
        raise DataError(f"{folder} holds no images ({' '.join(sorted(_SUFFIXES))})")
    return _from_classes(classes)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def _from_classes(classes: dict[Path, tuple[Path, ...]]) -> FolderIndex:
    for entry, images in classes.items():
        if not images:
            raise DataError(f"class folder {entry} holds no images: fill it or remove it")
    names = [entry.name for entry in classes]
    numbered = all(name.isascii() and name.isdigit() for name in names)
    values = [int(name) for name in names] if numbered else list(range(len(names)))
    if len(set(values)) < len(values):
        raise DataError(f"{next(iter(classes)).parent}: two class folders stand for the same number")
    files = tuple(path for images in classes.values() for path in images)
    labels = np.repeat(np.array(values, dtype=np.int64), [len(images) for images in classes.values()])
    return FolderIndex(files, labels, () if numbered else tuple(names))


def _from_csv(folder: Path, table: Path) -> FolderIndex:
    files: dict[Path, int] = {}
    try:
        with open(table, encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise DataError(f"{table}: the first line must name the columns file and label")
            for row in reader:
                where = f"{table}, line {reader.line_num}"
                path, label = _csv_row(folder, where, row["file"], row["label"])
                if path in files:
                    raise DataError(f"{where}: {row['file']} stands there twice")
                files[path] = label
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}") from error
    if not files:
        raise DataError(f"{table} names no files")
    return FolderIndex(tuple(files), np.fromiter(files.values(), dtype=np.int64))


def _csv_row(folder: Path, where: str, name: str | None, label: str | None) -> tuple[Path, int]:
    if not name or not name.strip():
        raise DataError(f"{where}: no file name")
    path = folder / name.strip()
    if not path.is_file():
        raise DataError(f"{where}: {name.strip()} is not a file in {folder}")
    text = (label or "").strip()
    # 18 digits fit int64.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise DataError(f"{where}: label {text!r} is not a whole number from 0")
    return path, int(text)
