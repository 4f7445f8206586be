"""What clients have sent, by its SHA-256, in the service's own folder: bounded, the least recently used goes first."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

from ...errors import OutputError
from .protocol import DIGEST

__all__ = ["Key", "RefusedError", "Store", "StoreFullError", "TooLargeError"]

Key = tuple[str, str]
"""Kind (`models` or `inputs`) and SHA-256."""

_SUFFIXES = {"models": ".onnx", "inputs": ".bin"}


class TooLargeError(Exception):
    """More bytes than one file may have."""


class StoreFullError(Exception):
    """No room, and all that is kept is in use."""


class RefusedError(Exception):
    """Content that does not have the hash it was announced by, or that is not let in; the text says why."""


class Store:
    """Files under `folder`, which belongs to one service.

    Nothing that a client says becomes part of a path but a hash, and a hash is 64 hexadecimal digits. An upload is
    written beside the others and gets its name when its hash and its content have been found right, so what has a name
    is whole, also after a power cut.

    Args:
        most: bytes of one file.
        limit: bytes of all, uploads under way included.

    Raises:
        OutputError: a folder that cannot be written.
    """

    def __init__(self, folder: Path, most: int, limit: int) -> None:
        self.folder = folder.resolve()
        self._most, self._limit = most, limit
        self._sizes: OrderedDict[Key, int] = OrderedDict()
        self._pins: Counter[Key] = Counter()
        self._arriving = 0
        try:
            for name in (*_SUFFIXES, "parts"):
                (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_stock()
        except OSError as error:
            raise OutputError(f"--folder {folder}: {error.strerror or error}") from error

    @property
    def size(self) -> int:
        """Bytes of all files and of what is arriving."""
        return sum(self._sizes.values()) + self._arriving

    def path(self, key: Key) -> Path:
        """Where a file is kept, or would be.

        Raises:
            ValueError: no such kind, or what is not a hash.
        """
        kind, digest = key
        if kind not in _SUFFIXES or not DIGEST.fullmatch(digest):
            raise ValueError(f"{key} names nothing")
        return self.folder / kind / (digest + _SUFFIXES[kind])

    def has(self, key: Key) -> bool:
        """Whether a file is there; asking counts as using it."""
        if key not in self._sizes:
            return False
        path = self.path(key)
        if not path.is_file():  # somebody tidied up
            del self._sizes[key]
            return False
        self._sizes.move_to_end(key)
        os.utime(path)  # so that the order outlives the service
        return True

    def pin(self, keys: Collection[Key]) -> None:
        """Keeps files from being evicted, until `unpin`."""
        self._pins.update(keys)

    def unpin(self, keys: Collection[Key]) -> None:
        """Takes back one `pin`."""
        self._pins.subtract(keys)
        self._pins += Counter()  # drops what is at zero

    async def receive(
        self, key: Key, chunks: AsyncIterator[bytes], check: Callable[[str, Path], Awaitable[str | None]]
    ) -> None:
        """Takes in an upload.

        Args:
            check: says what is wrong with a file of that kind, None where nothing is.

        Raises:
            TooLargeError, StoreFullError, RefusedError: nothing is kept.
        """
        kind, digest = key
        part = self.folder / "parts" / secrets.token_hex(16)
        found, received = hashlib.sha256(), 0
        try:
            with part.open("xb") as file:
                async for chunk in chunks:
                    if received + len(chunk) > self._most:
                        raise TooLargeError
                    self._make_room(len(chunk))
                    received += len(chunk)
                    self._arriving += len(chunk)
                    file.write(chunk)
                    found.update(chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            if found.hexdigest() != digest:
                raise RefusedError(f"its SHA-256 is {found.hexdigest()}")
            if fault := await check(kind, part):
                raise RefusedError(fault)
            part.replace(self.path(key))
            self._sizes[key] = received
            self._sizes.move_to_end(key)
        finally:
            self._arriving -= received
            part.unlink(missing_ok=True)

    def _make_room(self, wanted: int) -> None:
        while self.size + wanted > self._limit:
            victim = next((key for key in self._sizes if not self._pins[key]), None)
            if victim is None:
                raise StoreFullError
            self.path(victim).unlink(missing_ok=True)
            del self._sizes[victim]

    def _take_stock(self) -> None:
        """Knows again what was kept before the service was restarted, and removes what it left unfinished."""
        for leftover in (self.folder / "parts").iterdir():
            leftover.unlink()
        found: list[tuple[float, Key, int]] = []
        for kind, suffix in _SUFFIXES.items():
            for path in (self.folder / kind).glob(f"*{suffix}"):
                if DIGEST.fullmatch(path.stem):
                    facts = path.stat()
                    found.append((facts.st_mtime, (kind, path.stem), facts.st_size))
        for _, key, size in sorted(found):
            self._sizes[key] = size
        self._make_room(0)
