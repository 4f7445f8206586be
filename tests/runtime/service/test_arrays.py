from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortrim.errors import ModelError
from ortrim.runtime.service.arrays import decode_arrays, encode_arrays


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint16", "int64", "bool", ">f4"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 4), (2, 3)])
def test_arrays_come_back(kind, shape):
    arrays = {"a": np.ones(shape, kind), "größe": (np.arange(6).reshape(2, 3) % 2).astype(kind)[:, ::-1]}
    found = decode_arrays(encode_arrays(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([object()]), np.array([1 + 2j])])
def test_only_numbers_travel(array):
    with pytest.raises(ModelError, match="cannot be sent"):
        encode_arrays({"a": array})


def _message(header: object, numbers: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b"ortrim-1" + struct.pack("<I", len(text)) + text + numbers


_GOOD = {"name": "a", "dtype": "float32", "shape": [2]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ortrim-1",
        b"PK\x03\x04" + bytes(40),
        b"ortrim-1" + struct.pack("<I", 2**31) + b"[]",
        _message(b"\xff"),
        _message(b"[" * 60_000),
        _message({}),
        _message([1]),
        _message([_GOOD]),
        _message([_GOOD], bytes(9)),
        _message([_GOOD, _GOOD], bytes(16)),
        _message([{**_GOOD, "dtype": "O"}], bytes(16)),
        _message([{**_GOOD, "dtype": "float32,(99999999,)f8"}], bytes(16)),
        _message([{**_GOOD, "name": 3}], bytes(8)),
        _message([{**_GOOD, "shape": [-1]}], bytes(8)),
        _message([{**_GOOD, "shape": [True, 2]}], bytes(8)),
        _message([{**_GOOD, "shape": [2**40] * 16}], bytes(8)),
        _message([{**_GOOD, "shape": [2**40, 0, 2**40]}], bytes(8)),
        _message([{**_GOOD, "more": 1}], bytes(8)),
    ],
)
def test_what_was_not_encoded_is_refused(content):
    with pytest.raises((ValueError, RecursionError)):
        decode_arrays(content)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_damage_is_refused_or_harmless(noise, place):
    content = encode_arrays({"a": np.arange(8, dtype=np.float32)})
    try:
        found = decode_arrays(content[:place] + noise + content[place + len(noise) :])
    except (ValueError, RecursionError):
        return
    assert sum(array.nbytes for array in found.values()) <= len(content) + len(noise)
