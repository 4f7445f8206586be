"""What the original computes where the layers of slim nets are to match it: recorded once, for all candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from zlib import crc32

import numpy as np
import onnx

from ...errors import DataError
from .activations import Feeds, as_feeds, batches, fixed_batch, sample_count
from .consumers import find_consumers
from .matrices import Consumer
from .patches import Features
from .tails import Tails
from .tape import Tape

__all__ = ["Recording", "Spot"]

_LARGEST_BATCH = 64
_COPIES = 3
"""Of all tails of a batch that exist at a time: onnxruntime's, numpy's, and those of the batch before."""
_COLUMNS_MEMORY = 2**27
"""Bytes of columns that the fit of one layer may hold."""


@dataclass(frozen=True)
class Spot:
    """Some rows of one tensor in one batch."""

    positions: np.ndarray | None = field(repr=False)
    """Flat positions, a row for every sample; None is all of them."""
    rows: np.ndarray = field(repr=False)
    """`channels x (samples * positions)`."""
    axis: int = 0
    """Along which the tensor's samples lie: recurrent nets count them on axis 1."""

    def samples_first(self, values: np.ndarray) -> np.ndarray:
        """The tensor, or another that counts samples as it does, as readers want it."""
        return np.moveaxis(values, self.axis, 0)


class Recording:
    """Rows of the original at the tails of its consumers, and the samples that they belong to."""

    def __init__(
        self,
        model: onnx.ModelProto,
        images: np.ndarray | Feeds,
        *,
        rows_per_column: int = 64,
        memory: int = 1024,
        threads: int = 0,
        seed: int = 0,
    ) -> None:
        """
        Args:
            model: what `load` returned.
            images: preprocessed samples, `n x ...`, or one array an input by name; their order is shuffled.
            rows_per_column: rows that a layer is fitted to, for each column of its matrix; fewer where the memory does
                not allow as many.
            memory: MiB that the rows may take.
            threads: for onnxruntime; 0 is its default.
            seed: of the positions and the order.

        Raises:
            DataError: data that does not fit the model's inputs.
        """
        self._seed = seed
        self.threads = threads
        finder = Tails(model)
        owners: dict[str, Consumer] = {}
        for consumer in find_consumers(model).values():
            tensor = finder.of(consumer).output
            if tensor not in owners or owners[tensor].columns < consumer.columns:
                owners[tensor] = consumer
        self.batches = _batches(model, as_feeds(model, images), list(owners), memory, threads, seed)
        self.samples = sum(sample_count(batch) for batch in self.batches)
        axes = _sample_axes(model, owners, self.batches[0], threads)
        owners = {name: consumer for name, consumer in owners.items() if name in axes}
        wanted = {name: self._rows(consumer, rows_per_column) for name, consumer in owners.items()}
        total = 4 * sum(rows * owners[name].outputs for name, rows in wanted.items())
        share = min(1.0, memory * 2**20 / max(1, total))
        self._spots = self._record(model, owners, axes, {name: ceil(rows * share) for name, rows in wanted.items()})

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._spots

    def __getitem__(self, tensor: str) -> list[Spot]:
        """The rows of a tail, batch by batch."""
        return self._spots[tensor]

    @staticmethod
    def _rows(consumer: Consumer, rows_per_column: int) -> int:
        fitting = _COLUMNS_MEMORY // (4 * consumer.groups * consumer.columns)
        return max(1, min(rows_per_column * consumer.columns, fitting))

    def _record(
        self,
        model: onnx.ModelProto,
        owners: Mapping[str, Consumer],
        axes: Mapping[str, int],
        wanted: Mapping[str, int],
    ) -> dict[str, list[Spot]]:
        # Everything that stays is made before the second batch. Small arrays that stay between the activations of one
        # batch and the next keep the allocator from giving anything back: MobileNetV2 took 6.5 GB for rows of 0.4 GB.
        blocks: dict[str, np.ndarray] = {}
        positions: dict[str, list[np.ndarray | None]] = {}
        starts = np.cumsum([0, *(sample_count(batch) for batch in self.batches)])
        for place, values in enumerate(Tape(model, self.batches, threads=self.threads).read(list(owners))):
            for name, consumer in owners.items():
                y, reader = np.moveaxis(values[name], axes[name], 0), consumer.reader
                if name not in blocks:
                    available, count = reader.written(y.shape), ceil(wanted[name] / self.samples)
                    positions[name] = self._positions(name, available, count)
                    channels = reader.rows(y, positions[name][0]).shape[0]
                    blocks[name] = np.empty((channels, self.samples * min(count, available)), np.float32)
                each = blocks[name].shape[1] // self.samples
                rows = blocks[name][:, starts[place] * each : starts[place + 1] * each]
                rows[:] = reader.rows(y, positions[name][place])
        spots: dict[str, list[Spot]] = {}
        for name, block in blocks.items():
            parts = np.split(block, starts[1:-1] * (block.shape[1] // self.samples), axis=1)
            spots[name] = [Spot(*spot, axes[name]) for spot in zip(positions[name], parts, strict=True)]
        return spots

    def _positions(self, name: str, available: int, count: int) -> list[np.ndarray | None]:
        """`count` of the positions of a tensor for each sample of each batch, or all."""
        if count >= available:
            return [None] * len(self.batches)
        generator = np.random.default_rng([self._seed, crc32(name.encode())])
        return [
            np.sort([generator.choice(available, count, replace=False, shuffle=False) for _ in range(samples)])
            for samples in map(sample_count, self.batches)
        ]


def _sample_axes(model: onnx.ModelProto, owners: Mapping[str, Consumer], batch: Feeds, threads: int) -> dict[str, int]:
    """Axis of each tensor that samples are counted on; tensors without one, or with channels before it, are left out.

    Two batches tell. A graph with a batch of its own has one, and an axis of that size.
    """
    axes = dict.fromkeys(owners, 0)
    asked = [name for name, consumer in owners.items() if isinstance(consumer.reader, Features)]
    if not asked:
        return axes
    sizes = (1, 2) if fixed_batch(model) is None and sample_count(batch) > 1 else (sample_count(batch),)
    runs = [next(Tape(model, [_first(batch, size)], threads=threads).read(asked)) for size in sizes]
    for name in asked:
        shapes = [values[name].shape for values in runs]
        found = [axis for axis, counts in enumerate(zip(*shapes, strict=True)) if counts == sizes]
        if found and found[0] < len(shapes[0]) + owners[name].output_axis:
            axes[name] = found[0]
        else:
            del axes[name]
    return axes


def _first(batch: Feeds, count: int) -> dict[str, np.ndarray]:
    return {name: array[:count] if array.ndim else array for name, array in batch.items()}


def _batches(
    model: onnx.ModelProto, feeds: Feeds, tails: Sequence[str], memory: int, threads: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """Batches of shuffled samples (a folder of class folders comes sorted), as large as `memory` holds the tails of."""
    count = sample_count(feeds)
    order = np.random.default_rng(seed).permutation(count)
    feeds = {name: array[order] if array.ndim else array for name, array in feeds.items()}
    fixed = fixed_batch(model)
    if fixed is not None and count < fixed:
        raise DataError(f"the model takes batches of {fixed} samples, and there are {count}")
    size = fixed
    if size is None:
        (values,) = Tape(model, [_first(feeds, 1)], threads=threads).read(tails)
        each = max(1, sum(array.nbytes for array in values.values()))
        size = max(1, min(_LARGEST_BATCH, memory * 2**20 // (_COPIES * each)))
    return [batch for batch in batches(feeds, size) if fixed is None or sample_count(batch) == fixed]
