"""How a node reads its input: the columns that its weight matrix multiplies (im2col), and the rows that come out.

Both readers answer the same three questions, so that the least-squares code never asks which operator it works for:
which positions does one sample have, which columns are read there, and which values did the node write there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

__all__ = ["Features", "Reader", "Window"]


@dataclass(frozen=True)
class Window:
    """Conv and ConvTranspose: a window slides over the spatial axes of `n x c x *spatial`.

    A transposed convolution is an ordinary one with a flipped kernel over an input with `insert - 1` zeros between
    neighbours (Dumoulin and Visin, A guide to convolution arithmetic, 2016, section 4).
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    """Padding before each spatial axis, in the input with zeros inserted; negative crops."""
    ends: tuple[int, ...]
    groups: int = 1
    insert: tuple[int, ...] = ()

    @property
    def taps(self) -> int:
        """Columns that one input channel gives."""
        return prod(self.kernel)

    def extent(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial shape of the output for an input of `shape` (n x c x *spatial)."""
        steps = self.insert or (1,) * len(self.kernel)
        padded = [
            (size - 1) * step + 1 + b + e
            for size, step, b, e in zip(shape[2:], steps, self.begins, self.ends, strict=True)
        ]
        return tuple(
            (size - (k - 1) * d - 1) // s + 1
            for size, k, d, s in zip(padded, self.kernel, self.dilations, self.strides, strict=True)
        )

    def positions(self, shape: Sequence[int]) -> int:
        """Output positions of one sample."""
        return prod(self.extent(shape))

    def columns(self, x: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        """What the weights multiply, `groups x (c / groups * taps) x (n * positions)`; channels vary slower than taps.

        `chosen` are flat output positions, the same for all samples or a row of them for each; None takes every one.
        """
        extent = self.extent(x.shape)
        padded = self._padded(x)
        channels, count = padded.shape[:2]
        rows = prod(extent) if chosen is None else chosen.shape[-1]
        out = np.empty((channels, self.taps, count, rows), dtype=np.float32)
        starts = None if chosen is None else np.unravel_index(chosen, extent)
        samples = _starts(count, prod(padded.shape[2:]))
        lines = padded.reshape(channels, -1)
        for tap, offset in enumerate(product(*(range(k) for k in self.kernel))):
            shift = [o * d for o, d in zip(offset, self.dilations, strict=True)]
            if starts is None:
                cut = [
                    slice(first, first + (size - 1) * step + 1, step)
                    for first, size, step in zip(shift, extent, self.strides, strict=True)
                ]
                out[:, tap] = padded[(slice(None), slice(None), *cut)].reshape(channels, count, rows)
            else:
                index = [at * s + first for at, s, first in zip(starts, self.strides, shift, strict=True)]
                flat = np.ravel_multi_index(index, padded.shape[2:])
                out[:, tap] = lines.take(samples + flat, axis=1)
        return out.reshape(self.groups, -1, count * rows)

    def written(self, shape: Sequence[int]) -> int:
        """Positions of one sample in an output of `shape` (n x o x *spatial)."""
        return prod(shape[2:])

    def rows(self, y: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        """The node's output `n x o x *spatial` in the order of `columns`: `o x (n * positions)`."""
        flat = y.reshape(*y.shape[:2], -1)
        if chosen is None:
            return flat.swapaxes(0, 1).reshape(y.shape[1], -1)
        picked = flat[np.arange(len(flat))[:, None], :, chosen]
        return picked.reshape(-1, y.shape[1]).T

    def _padded(self, x: np.ndarray) -> np.ndarray:
        """`c x n x *spatial`, zeros inserted, padded or cropped."""
        x = x.swapaxes(0, 1)
        if self.insert:
            wide = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], self.insert, strict=True)]
            spread = np.zeros((*x.shape[:2], *wide), dtype=x.dtype)
            spread[(slice(None), slice(None), *(slice(None, None, step) for step in self.insert))] = x
            x = spread
        cut = [
            slice(max(0, -b), size - max(0, -e)) for size, b, e in zip(x.shape[2:], self.begins, self.ends, strict=True)
        ]
        x = x[(slice(None), slice(None), *cut)]
        before, after = ([max(0, room) for room in rooms] for rooms in (self.begins, self.ends))
        if not any((*before, *after)):
            return np.ascontiguousarray(x)
        # numpy.pad fills every axis in turn, which takes twice as long.
        sizes = [b + size + e for b, size, e in zip(before, x.shape[2:], after, strict=True)]
        padded = np.zeros((*x.shape[:2], *sizes), dtype=x.dtype)
        padded[(slice(None), slice(None), *(slice(b, b + n) for b, n in zip(before, x.shape[2:], strict=True)))] = x
        return padded


@dataclass(frozen=True)
class Features:
    """Gemm and MatMul: columns lie along one axis, and every other index is a row. Axis 0 counts samples."""

    axis: int
    """Negative: counted from the last axis."""

    groups = 1
    taps = 1

    def positions(self, shape: Sequence[int]) -> int:
        """Rows of one sample."""
        return prod(shape[1:]) // shape[self.axis]

    def columns(self, x: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        """`1 x features x (n * positions)`."""
        moved = np.moveaxis(x, self.axis, 0)
        picked = flat = moved.reshape(len(moved), -1)
        if chosen is not None:
            picked = flat[:, _starts(x.shape[0], flat.shape[1] // x.shape[0]) + chosen]
        return picked.astype(np.float32, copy=False).reshape(1, len(flat), -1)

    def written(self, shape: Sequence[int]) -> int:
        """Rows of one sample in an output of `shape`."""
        return self.positions(shape)

    def rows(self, y: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
        """The node's output in the order of `columns`: `outputs x (n * positions)`."""
        return self.columns(y, chosen)[0]


def _starts(samples: int, each: int) -> np.ndarray:
    """Where every sample begins in a line of all their positions, `samples x 1`."""
    return np.arange(samples)[:, None] * each


Reader = Window | Features
