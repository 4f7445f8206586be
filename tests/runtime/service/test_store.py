from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from ortrim.errors import OutputError
from ortrim.runtime.service.store import RefusedError, Store, StoreFullError, TooLargeError


def _key(content: bytes) -> tuple[str, str]:
    return "models", hashlib.sha256(content).hexdigest()


def _receive(store: Store, content: bytes, key=None, fault: str | None = None, pieces: int = 4) -> tuple[str, str]:
    async def chunks():
        step = max(1, -(-len(content) // pieces))
        for start in range(0, len(content), step):
            yield content[start : start + step]

    async def check(_kind: str, path: Path) -> str | None:
        assert path.read_bytes() == content
        return fault

    key = key or _key(content)
    asyncio.run(store.receive(key, chunks(), check))
    return key


def _files(store: Store) -> set[str]:
    return {path.name for path in store.folder.rglob("*") if path.is_file()}


def test_what_was_received_is_there(tmp_path):
    store = Store(tmp_path / "store", 100, 1000)
    key = _receive(store, b"model")
    assert store.has(key)
    assert store.path(key).read_bytes() == b"model"
    assert not store.has(("inputs", key[1]))


@pytest.mark.parametrize("fault", [None, "not ONNX"])
def test_nothing_stays_of_what_is_refused(tmp_path, fault):
    store = Store(tmp_path, 100, 1000)
    with pytest.raises(RefusedError):
        _receive(store, b"model", key=None if fault else _key(b"another"), fault=fault)
    with pytest.raises(TooLargeError):
        _receive(store, bytes(101))
    assert not _files(store)
    assert store.size == 0


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path):
    store = Store(tmp_path, 100, 1000)

    async def chunks():
        yield b"half"
        raise ConnectionError

    async def check(*_):
        raise AssertionError("half a file was looked at")

    with pytest.raises(ConnectionError):
        asyncio.run(store.receive(_key(b"half"), chunks(), check))
    assert not _files(store)
    assert store.size == 0


def test_the_least_recently_used_goes_first(tmp_path):
    store = Store(tmp_path, 100, 300)
    first, second, third = (_receive(store, bytes([number]) * 100) for number in range(3))
    assert store.has(first)
    fourth = _receive(store, b"x" * 100)
    assert [store.has(key) for key in (first, second, third, fourth)] == [True, False, True, True]
    assert store.size == 300
    assert len(_files(store)) == 3


def test_what_is_in_use_stays(tmp_path):
    store = Store(tmp_path, 100, 200)
    first, second = (_receive(store, bytes([number]) * 100) for number in range(2))
    store.pin([first, second])
    with pytest.raises(StoreFullError):
        _receive(store, b"x" * 100)
    store.unpin([second])
    _receive(store, b"x" * 100)
    assert store.has(first)
    assert not store.has(second)


def test_a_new_service_knows_what_the_last_one_kept(tmp_path):
    store = Store(tmp_path, 100, 1000)
    first, second = _receive(store, b"first"), _receive(store, b"second")
    os.utime(store.path(second), (1, 1))
    (tmp_path / "parts" / "unfinished").write_bytes(b"half")
    (tmp_path / "models" / "notes.txt").write_text("of somebody else")
    again = Store(tmp_path, 100, len(b"first"))
    assert again.has(first)
    assert not again.has(second)
    assert _files(again) == {again.path(first).name, "notes.txt"}


def test_a_file_that_somebody_removed_is_missing(tmp_path):
    store = Store(tmp_path, 100, 1000)
    key = _receive(store, b"model")
    store.path(key).unlink()
    assert not store.has(key)


@pytest.mark.parametrize("digest", ["", "..", "../../x", "a" * 63, "A" * 64, "a" * 64 + "\n", "a/" * 32])
def test_only_hashes_become_paths(tmp_path, digest):
    with pytest.raises(ValueError, match="names nothing"):
        Store(tmp_path, 100, 1000).path(("models", digest))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="--folder"):
        Store(tmp_path / "file", 100, 1000)
