"""A node that reads channels through weights, seen as a matrix: what all of refitting and ranking works on.

Conv, ConvTranspose, Gemm and MatMul differ in where a weight keeps its channels and in how a row of inputs is cut out
of a tensor. A `Consumer` hides both, so that the least squares are written once:
`output rows = matrix @ columns + bias`, per convolution group. A BatchNormalization is the smallest case: every channel
a group of its own, with a matrix of one number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from .patches import Reader, Window

__all__ = ["BiasSite", "Consumer"]


@dataclass(frozen=True)
class BiasSite:
    """Where a constant can be added to a node's output: `scale * tensor` enters the sum.

    A bias input of the node, or what an Add or a BatchNormalization behind it holds.
    """

    tensor: str
    scale: float
    shape: tuple[int, ...]

    def values(self, offsets: np.ndarray) -> np.ndarray:
        """What to add to the tensor so that each output channel gains its offset."""
        return (offsets / self.scale).reshape(self.shape)


@dataclass(frozen=True)
class Consumer:
    """One node that multiplies its input by a constant matrix."""

    node: str
    op: str
    input: str
    output: str
    weight: str
    shape: tuple[int, ...]
    """Of the weight."""
    reader: Reader
    bias: BiasSite | None
    """None: it has none, and nothing behind it can take one."""
    alpha: float | np.ndarray = 1.0
    """Factor on the weight: Gemm's, or for each channel what a BatchNormalization divides by."""
    transposed: bool = False
    """Gemm and MatMul: the weight holds outputs x inputs."""
    mixing: bool = False
    """The window is left out: columns are input channels at one position, rows are outputs x taps. For layers whose
    patches are too long for a matrix of second moments."""

    @property
    def channel_axis(self) -> int:
        """Axis of the weight along which input channels lie."""
        return 1 if self.op == "Conv" or self.transposed else 0

    @property
    def groups(self) -> int:
        return self.reader.groups

    @property
    def outputs(self) -> int:
        """Output channels, all groups together."""
        if self.op == "Conv":
            return self.shape[0]
        if self.op == "ConvTranspose":
            return self.shape[1] * self.groups
        if self.op == "BatchNormalization":
            return self.shape[0]
        return self.shape[0] if self.transposed else self.shape[1]

    @property
    def output_axis(self) -> int:
        """Axis of the output tensor along which output channels lie."""
        return 1 if isinstance(self.reader, Window) else self.reader.axis

    @property
    def _all_groups(self) -> bool:
        """Whether the weight's channel axis holds the channels of all groups, rather than of one."""
        return self.op in ("ConvTranspose", "BatchNormalization")

    @property
    def taps(self) -> int:
        """Columns that belong to one input channel."""
        return 1 if self.mixing else self.reader.taps

    @property
    def columns(self) -> int:
        """Columns of each group's matrix."""
        inputs = self.shape[self.channel_axis]
        return (inputs // self.groups if self._all_groups else inputs) * self.taps

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        """`groups x rows x columns` in float64; input channels vary slower than taps. The weight may be a slim one."""
        g = self.groups
        weight = weight.astype(np.float64)
        if self.op == "Conv":
            matrix = weight.reshape(g, weight.shape[0] // g, weight.shape[1], -1)
        elif self.op == "ConvTranspose":
            spatial = tuple(range(2, weight.ndim))
            flat = np.flip(weight, spatial).reshape(g, weight.shape[0] // g, weight.shape[1], -1)
            matrix = flat.swapaxes(1, 2)
        elif self.op == "BatchNormalization":
            matrix = (self.alpha * weight).reshape(g, 1, 1, 1)
        else:
            matrix = self.alpha * (weight if self.transposed else weight.T)[None, :, :, None]
        if self.mixing:
            matrix = matrix.swapaxes(2, 3)
            return matrix.reshape(g, -1, matrix.shape[3])
        return matrix.reshape(g, matrix.shape[1], -1)

    def tensor(self, matrix: np.ndarray) -> np.ndarray:
        """The weight that `matrix` belongs to; the inverse of `matrix()`."""
        g = self.groups
        taps = self.reader.taps
        if self.mixing:
            matrix = matrix.reshape(g, -1, taps, matrix.shape[2]).swapaxes(2, 3)
        else:
            matrix = matrix.reshape(g, matrix.shape[1], -1, taps)
        kernel = self.shape[2:]
        if self.op == "Conv":
            return matrix.reshape(g * matrix.shape[1], matrix.shape[2], *kernel)
        if self.op == "ConvTranspose":
            flat = matrix.swapaxes(1, 2)
            weight = flat.reshape(g * flat.shape[1], flat.shape[2], *kernel)
            return np.flip(weight, tuple(range(2, weight.ndim)))
        if self.op == "BatchNormalization":
            return matrix.ravel() / self.alpha
        flat = matrix[0, :, :, 0] / self.alpha
        return flat if self.transposed else flat.T

    def offsets(self, rows: np.ndarray) -> np.ndarray:
        """What a constant per row of the matrix (`groups x rows`) adds to each output channel."""
        return rows.reshape(self.outputs, -1).sum(axis=1) if self.mixing else rows.reshape(-1)

    def rows_of(self, values: np.ndarray) -> np.ndarray:
        """One value an output channel, for each row of the matrix: `groups x rows`."""
        return np.repeat(values, self.reader.taps if self.mixing else 1).reshape(self.groups, -1)

    def columns_at(self, positions: Iterable[int]) -> np.ndarray:
        """`groups x columns` that belong to these positions of `channel_axis`, ascending.

        In a Conv the same offsets are meant in every group; in a ConvTranspose every group must have as many.
        """
        mask = np.zeros(self.shape[self.channel_axis], dtype=bool)
        mask[list(positions)] = True
        if self._all_groups:
            channels = np.stack([np.flatnonzero(part) for part in mask.reshape(self.groups, -1)])
        else:
            channels = np.broadcast_to(np.flatnonzero(mask), (self.groups, int(mask.sum())))
        return (channels[:, :, None] * self.taps + np.arange(self.taps)).reshape(self.groups, -1)

    def as_mixing(self) -> Consumer:
        """The same node, its channels mixed at one position only."""
        if not isinstance(self.reader, Window):
            return self
        return replace(self, mixing=True)

    @property
    def sampling(self) -> Reader:
        """How the columns of the matrix are cut out of the input."""
        if not (self.mixing and isinstance(self.reader, Window)):
            return self.reader
        rank = len(self.reader.kernel)
        ones, zeros = (1,) * rank, (0,) * rank
        return Window(ones, ones, ones, zeros, zeros, self.reader.groups)
