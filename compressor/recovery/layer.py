"""What one layer is fitted to in the sequential refit: columns of its input, and its tail in both nets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .matrices import Consumer
from .patches import Window
from .tails import Tail
from .tape import Tape
from .targets import Spot

__all__ = ["Layer", "Product", "Rows", "added", "joined", "rows_of"]


@dataclass(frozen=True)
class Layer:
    """A layer that is refitted, and the place where it is compared with the original."""

    consumer: Consumer
    tail: Tail
    kept: np.ndarray = field(repr=False)
    """Channels of the original's tail that the slim net has."""

    @property
    def scale(self) -> np.ndarray | None:
        """Factor of each row on the way to the tail, `groups x rows x 1`; None is 1."""
        if self.tail.scale is None:
            return None
        return self.consumer.rows_of(self.tail.scale)[:, :, None].astype(np.float32)


@dataclass(frozen=True)
class Product:
    """A convolution as a matrix: at the rows of interest cheaper than running it everywhere."""

    matrix: np.ndarray = field(repr=False)
    """`groups x rows x columns`."""
    offset: np.ndarray = field(repr=False)
    """`groups x rows`: its own bias."""
    nothing: np.ndarray = field(repr=False)
    """Zeros that broadcast to its output."""

    @classmethod
    def of(cls, consumer: Consumer, tape: Tape) -> Product | None:
        """As its weights are now; None where it is no convolution, or has a bias that is computed."""
        if consumer.op not in ("Conv", "ConvTranspose"):
            return None
        weight, *bias = (tape.weight(name) for name in tape.inputs(consumer.output)[1:] if name)
        if weight is None or any(values is None for values in bias):
            return None
        offset = consumer.rows_of(bias[0]) if bias else np.zeros((consumer.groups, 1))
        nothing = np.zeros((1, consumer.outputs) + (1,) * (weight.ndim - 2), weight.dtype)
        return cls(consumer.matrix(weight), offset, nothing)


@dataclass(frozen=True)
class Rows:
    """Samples of one layer: columns of its input, and its tail in both nets; `groups x ... x rows` each."""

    columns: np.ndarray
    slim: np.ndarray
    goal: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.columns, self.slim, self.goal

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.columns.shape[2]

    def part(self, first: int, last: int | None) -> Rows:
        """The rows from `first` to `last`."""
        return Rows(*(array[:, :, first:last] for array in self.arrays))

    def missing(self, tail: Tail, on_top: np.ndarray | float = 0.0) -> np.ndarray:
        """What the layer should add to its output beyond `on_top`, in units of the tail."""
        now = self.slim + on_top
        gap = self.goal - now
        if tail.low is not None:
            gap = np.where(self.goal <= tail.low, np.minimum(0.0, tail.low - now), gap)
        if tail.high is not None:
            gap = np.where(self.goal >= tail.high, np.maximum(0.0, tail.high - now), gap)
        return gap


def rows_of(layer: Layer, spot: Spot, values: Mapping[str, np.ndarray], product: Product | None) -> Rows:
    """Rows of one batch; `values` of the tail lack what the layer brings, where that is a `product`."""
    consumer = layer.consumer
    reader, groups = consumer.reader, consumer.groups
    x, y = (spot.samples_first(values[name]) for name in (consumer.input, layer.tail.output))
    columns = reader.columns(x, spot.positions)
    if product is not None and isinstance(reader, Window):
        y = np.broadcast_to(y, (len(x), consumer.outputs, *reader.extent(x.shape)))
    slim = reader.rows(y, spot.positions).reshape(groups, -1, columns.shape[2])
    if product is not None:
        slim = slim + added(product.matrix, product.offset, columns, layer.scale)
    return Rows(columns, slim, spot.rows[layer.kept].reshape(slim.shape))


def joined(parts: Iterable[Rows], samples: Sequence[int]) -> Rows:
    """The rows of all batches, of so many samples each.

    There is room for all of them before the second batch is read: arrays that stay between the activations of one batch
    and the next keep the allocator from giving anything back (of MobileNetV2 it held 1.3 GB so).
    """
    room, begin = None, 0
    for part, count in zip(parts, samples, strict=True):
        if len(samples) == 1:
            return part
        if room is None:
            total = part.count // count * sum(samples)
            room = Rows(*(np.empty((*array.shape[:2], total), array.dtype) for array in part.arrays))
        for all_of_it, array in zip(room.arrays, part.arrays, strict=True):
            all_of_it[:, :, begin : begin + part.count] = array
        begin += part.count
    assert room is not None, "there are batches"
    return room


def added(change: np.ndarray, shift: np.ndarray, columns: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """What the change brings to the tail: `groups x rows x n`."""
    out = change.astype(np.float32) @ columns
    out += shift[:, :, None].astype(np.float32)
    return out if scale is None else out * scale
