"""Second moments of every consumer's input, gathered once from unlabelled samples.

With the mean and the covariance of the columns that a weight matrix multiplies, the least-squares weights for any set
of kept channels are a small solve, without another pass over data. Consumers that read one tensor through one window
share their moments.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil

import numpy as np
import onnx

from ...graph.group import ChannelAnalysis, Role
from .activations import Feeds, activations, as_feeds, sample_count
from .consumers import find_consumers
from .matrices import Consumer
from .patches import Reader
from .tails import Tail, Tails

__all__ = ["Moment", "Moments", "gather", "pruned_consumers"]

_BLOCK = 2**24
"""Values in one block of columns: 64 MiB of float32."""
_SPREAD_SAMPLES = 128
"""Enough for a variance."""


@dataclass(frozen=True)
class Moment:
    """Mean and covariance of the columns that one window cuts out of one tensor."""

    mean: np.ndarray = field(repr=False)
    """`groups x columns`."""
    covariance: np.ndarray = field(repr=False)
    """`groups x columns x columns`."""
    rows: int
    """Rows that they were taken over."""

    @cached_property
    def uncentred(self) -> np.ndarray:
        """Second moments about zero: what counts where no bias can take up the mean."""
        return self.covariance + self.mean[:, :, None] * self.mean[:, None, :]


@dataclass(frozen=True)
class Moments:
    """What refitting and ranking know of a model's data."""

    consumers: Mapping[str, Consumer]
    """By node name, in graph order: those that can lose input channels."""
    _by_reading: Mapping[tuple[str, Reader], Moment] = field(repr=False)
    tails: Mapping[str, Tail] = field(repr=False)
    """By node name: the sum that the consumer's output flows into."""
    spread: Mapping[str, float] = field(repr=False)
    """By node name: variance of that sum, added up over channels."""

    def __getitem__(self, node: str) -> Moment:
        return self._by_reading[_reading(self.consumers[node])]

    @property
    def nbytes(self) -> int:
        """Memory that the matrices take."""
        return sum(moment.covariance.nbytes + moment.mean.nbytes for moment in self._by_reading.values())


class _Sum:
    """Running sums of one reading."""

    def __init__(self, reader: Reader, columns: int) -> None:
        self.reader = reader
        self.first = np.zeros((reader.groups, columns))
        self.second = np.zeros((reader.groups, columns, columns))
        self.rows = 0

    def add(self, x: np.ndarray, chosen: np.ndarray | None) -> None:
        columns = self.reader.columns(x, chosen)
        for group, part in enumerate(columns):
            # float32 is exact enough within a block of rows and twice as fast; the blocks are added up in float64.
            self.second[group] += part @ part.T
            self.first[group] += part.sum(axis=1, dtype=np.float64)
        self.rows += columns.shape[2]

    def moment(self) -> Moment:
        mean = self.first / self.rows
        return Moment(mean, self.second / self.rows - mean[:, :, None] * mean[:, None, :], self.rows)


def _reading(consumer: Consumer) -> tuple[str, Reader]:
    return consumer.input, consumer.sampling


def pruned_consumers(model: onnx.ModelProto, analysis: ChannelAnalysis, max_columns: int) -> dict[str, Consumer]:
    """The consumers that some group can take input channels from, by node name, in graph order.

    Those with more than `max_columns` columns (512 channels under a 3x3 window have 4608, and their matrix of second
    moments 170 MB) are refitted channel by channel instead: each removed channel is replaced by a mixture of the kept
    ones at the same position, which needs the moments of single positions only.
    """
    losing = {slot.tensor for group in analysis.groups for slot in group.slots if slot.role is Role.CONSUMER}
    found = {name: c for name, c in find_consumers(model).items() if c.weight in losing}
    return {name: c if c.columns <= max_columns else c.as_mixing() for name, c in found.items()}


def gather(
    model: onnx.ModelProto,
    analysis: ChannelAnalysis,
    images: np.ndarray | Feeds,
    *,
    rows_per_column: int = 64,
    max_columns: int = 2304,
    memory: int = 512,
    threads: int = 0,
    seed: int = 0,
) -> Moments:
    """Moments of the input of every consumer that can lose channels.

    Args:
        model: what `load` returned.
        images: preprocessed samples, `n x ...`, or one array an input by name.
        rows_per_column: a window slides over far more positions than a matrix of its size needs. About this many rows
            a column are drawn, at random positions, the same number from every sample.
        max_columns: consumers with more are refitted channel by channel; see `pruned_consumers`.
        memory: MiB of activations that are held at a time; the moments themselves come on top (`Moments.nbytes`).
        threads: for onnxruntime; 0 is its default.

    Raises:
        DataError: data that does not fit the model's inputs.
    """
    feeds = as_feeds(model, images)
    consumers = pruned_consumers(model, analysis, max_columns)
    sums: dict[str, dict[Reader, _Sum]] = defaultdict(dict)
    for consumer in consumers.values():
        tensor, reader = _reading(consumer)
        sums[tensor].setdefault(reader, _Sum(reader, consumer.columns))
    rng = np.random.default_rng(seed)
    finder = Tails(model)
    tails = {node: finder.of(consumer) for node, consumer in consumers.items()}
    samples = sample_count(feeds)
    for values in activations(model, sums, feeds, memory=memory, threads=threads):
        for tensor, x in values.items():
            for total in sums[tensor].values():
                _add(total, x, ceil(rows_per_column * total.first.shape[1] / samples), rng)
    by_reading = {
        (tensor, reader): total.moment() for tensor, readers in sums.items() for reader, total in readers.items()
    }
    some = {name: array[:_SPREAD_SAMPLES] if array.ndim else array for name, array in feeds.items()}
    axes = {tails[node].output: consumer.output_axis for node, consumer in consumers.items()}
    variances = _variances(model, axes, some, memory, threads)
    return Moments(consumers, by_reading, tails, {node: variances[tail.output] for node, tail in tails.items()})


def _add(total: _Sum, x: np.ndarray, wanted: int, rng: np.random.Generator) -> None:
    """`wanted` positions of every sample, in blocks of bounded size."""
    available = total.reader.positions(x.shape)
    chosen = None if wanted >= available else np.sort(rng.choice(available, wanted, replace=False))
    taken = available if chosen is None else wanted
    step = max(1, _BLOCK // (total.first.size * taken))
    for start in range(0, len(x), step):
        total.add(x[start : start + step], chosen)


def _variances(
    model: onnx.ModelProto, axes: Mapping[str, int], feeds: Feeds, memory: int, threads: int
) -> dict[str, float]:
    """Variance of each tensor over samples and positions, added up over its channels, which lie along `axes`."""
    sums: dict[str, np.ndarray] = {}
    rows: dict[str, int] = defaultdict(int)
    for values in activations(model, axes, feeds, memory=memory, threads=threads):
        for name, y in values.items():
            flat = np.moveaxis(y, axes[name], 0).reshape(y.shape[axes[name]], -1).astype(np.float64)
            sums[name] = sums.get(name, 0.0) + np.stack([flat.sum(axis=1), (flat**2).sum(axis=1)])
            rows[name] += flat.shape[1]
    means = {name: total / rows[name] for name, total in sums.items()}
    return {name: float((square - mean**2).sum()) for name, (mean, square) in means.items()}
