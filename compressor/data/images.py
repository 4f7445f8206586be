"""Image files as arrays of pixels, decoded with Pillow."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image, ImageOps

from ...errors import DataError

__all__ = ["ImageFiles", "decode_all"]

_DECODERS = 4
_MEMORY = 2 << 30
"""Bytes of decoded images kept in memory; larger folders are decoded again in every pass."""

# What Pillow raises on damaged files, found by cutting and flipping bytes of real ones.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files seen as a uint8 NHWC array, decoded when rows are asked for."""

    files: tuple[Path, ...]
    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.files), self.height, self.width, self.channels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        size = (self.width, self.height)
        with ThreadPoolExecutor(_DECODERS) as pool, warnings.catch_warnings():
            # Odd metadata is common in photographs and does not change the pixels.
            warnings.simplefilter("ignore")
            images = list(pool.map(lambda i: _decode(self.files[i], self.channels, size), indices))
        return np.stack(images)

    def subset(self, indices: np.ndarray) -> Self:
        return replace(self, files=tuple(self.files[i] for i in indices))


def decode_all(
    files: tuple[Path, ...], channels: int, height: int | None, width: int | None
) -> np.ndarray | ImageFiles:
    """The images at one size: uint8 NHWC in memory, or decoded on demand where they would not fit.

    Images of another size are scaled until they just cover the wanted one and cut at the centre; images of the right
    size are left alone. An open size is taken from the first image, and all must share it.

    Raises:
        DataError: a file is no image that can be read, or sizes differ where the model leaves the size open.
    """
    if height is None or width is None:
        height, width = _shared_size(files)
    images = ImageFiles(files, height, width, channels)
    return images[np.arange(len(images))] if np.prod(images.shape, dtype=np.int64) <= _MEMORY else images


def _shared_size(files: Sequence[Path]) -> tuple[int, int]:
    """Height and width that all files share."""
    first: tuple[int, int] | None = None
    for path in files:
        try:
            with Image.open(path) as image:
                width, height = image.size
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        if first is None:
            first = (height, width)
        elif first != (height, width):
            raise DataError(
                f"{path} is {height}x{width} and {files[0]} is {first[0]}x{first[1]}: the model takes any size, so "
                "give one with --size H W"
            )
    if first is None:
        raise DataError("no images to take a size from")
    return first


def _decode(path: Path, channels: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, channels); `size` is (width, height), as Pillow has it."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("L" if channels == 1 else "RGB")
            if image.size != size:
                image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
            pixels = np.asarray(image, dtype=np.uint8)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return pixels.reshape(size[1], size[0], channels)


def _damaged(path: Path, error: BaseException) -> DataError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return DataError(f"image {path} cannot be read: {reason}")
