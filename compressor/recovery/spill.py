"""Arrays that are too many for memory, in a file without a name: whatever happens to the process, nothing is left."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from math import prod

import numpy as np

__all__ = ["Spill"]


class Spill:
    """One temporary file (in `TMPDIR`) for the arrays of many batches; it goes when the last of them is forgotten."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as what reads from it)

    def keep(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The same arrays, each read from the file whenever it is asked for.

        Raises:
            OSError: the disk is full.
        """
        places = {}
        self._file.seek(0, 2)
        for name, array in arrays.items():
            places[name] = (array.dtype, array.shape, self._file.tell())
            self._file.write(array.tobytes())
        self._file.flush()
        return _OnDisk(self, places)

    def read(self, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> np.ndarray:
        """One array."""
        self._file.seek(offset)
        return np.frombuffer(self._file.read(prod(shape) * dtype.itemsize), dtype).reshape(shape)


class _OnDisk(Mapping[str, np.ndarray]):
    """The arrays of one batch."""

    def __init__(self, spill: Spill, places: Mapping[str, tuple[np.dtype, tuple[int, ...], int]]) -> None:
        self._spill, self._places = spill, places

    def __getitem__(self, name: str) -> np.ndarray:
        return self._spill.read(*self._places[name])

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
