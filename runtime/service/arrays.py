"""Inputs on the wire: a header in JSON (name, dtype and shape of each), then the numbers as they lie in memory.

Neither pickle nor an archive: there is nothing to execute and nothing to unpack, and what the header promises has to
be there, byte for byte.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from ...errors import ModelError

__all__ = ["decode_arrays", "encode_arrays"]

_MAGIC = b"ortrim-1"
_LENGTH = struct.Struct("<I")
_DTYPES = frozenset(
    f"{kind}{bits}"
    for kind, sizes in {"float": (16, 32, 64), "int": (8, 16, 32, 64), "uint": (8, 16, 32, 64)}.items()
    for bits in sizes
) | {"bool"}
_LONGEST_HEADER = 2**16
_MOST_DIMS = 16


def encode_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays as one block of bytes, the same for the same arrays.

    Raises:
        ModelError: an array of strings or objects.
    """
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise ModelError(f"input {name!r} is of type {array.dtype}, which cannot be sent to a remote device")
    rows = [{"name": name, "dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()]
    header = json.dumps(rows).encode()
    numbers = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes() for array in arrays.values()]
    return b"".join([_MAGIC, _LENGTH.pack(len(header)), header, *numbers])


def decode_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of `encode_arrays`.

    Raises:
        ValueError: bytes that it did not make.
    """
    start = len(_MAGIC) + _LENGTH.size
    if len(content) < start or not content.startswith(_MAGIC):
        raise ValueError("not in the format of inputs")
    (length,) = _LENGTH.unpack_from(content, len(_MAGIC))
    if length > _LONGEST_HEADER:
        raise ValueError("the header is too long")
    rows = json.loads(content[start : start + length])
    if not isinstance(rows, list):
        raise ValueError("the header is no list")
    place = start + length
    arrays: dict[str, np.ndarray] = {}
    for name, dtype, shape in map(_entry, rows):
        count = prod(shape)
        if name in arrays or count * dtype.itemsize > len(content) - place:
            raise ValueError(f"input {name!r} is there twice, or lacks numbers")
        arrays[name] = np.frombuffer(content, dtype, count, place).reshape(shape)
        place += count * dtype.itemsize
    if place != len(content):
        raise ValueError("there are more numbers than the header names")
    return arrays


def _entry(row: Any) -> tuple[str, np.dtype, tuple[int, ...]]:  # noqa: ANN401 (whatever JSON holds)
    """Name, dtype and shape of one array."""
    if not isinstance(row, dict) or set(row) != {"name", "dtype", "shape"}:
        raise ValueError("an entry of the header has name, dtype and shape")
    name, dtype, shape = row["name"], row["dtype"], row["shape"]
    if not isinstance(name, str) or not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError("an entry of the header has an unknown dtype")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMS:
        raise ValueError("an entry of the header has no shape")
    if not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= 2**40 for size in shape):
        raise ValueError("an entry of the header has a shape that is none")
    return name, np.dtype(dtype).newbyteorder("<"), tuple(shape)
