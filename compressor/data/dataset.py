"""Samples in memory as compactly as they came, handed out in batches as the model wants them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from ...errors import DataError
from .images import ImageFiles
from .preprocess import Preprocessing
from .spec import InputSpec, TensorSpec

__all__ = ["Batch", "Column", "Dataset", "PixelColumn", "TensorColumn"]

_BATCH_ELEMENTS = 4 << 20
"""Input numbers that a batch holds at most when its size is free: 16 MB of float32, beside larger activations."""
_BATCH_SAMPLES = 64


class Column(Protocol):
    """All samples of one input of the model."""

    @property
    def stacked(self) -> bool:
        """True when each sample is a whole input of its own, so that samples cannot share a run."""
        ...

    @property
    def sample_elements(self) -> int: ...

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Samples as the model wants them, of the type and the axis order of its input."""
        ...

    def subset(self, indices: np.ndarray) -> Column: ...


@dataclass(frozen=True, eq=False)
class PixelColumn:
    """Images kept as uint8, normalised and brought into the model's order when they are taken."""

    pixels: np.ndarray | ImageFiles
    """uint8 (samples, H, W, C)."""
    spec: TensorSpec
    preprocessing: Preprocessing
    stacked: bool = False

    @property
    def sample_elements(self) -> int:
        return int(np.prod(self.pixels.shape[1:]))

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Shape (len(indices), C, H, W) or (len(indices), H, W, C); integer inputs get the pixels as they are."""
        images = self.pixels[indices]
        if self.spec.dtype.kind == "f":
            images = self.preprocessing.apply(images)
        if self.spec.image is None or not self.spec.image.channels_last:
            images = images.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images, dtype=self.spec.dtype)

    def subset(self, indices: np.ndarray) -> PixelColumn:
        pixels = self.pixels[indices] if isinstance(self.pixels, np.ndarray) else self.pixels.subset(indices)
        return replace(self, pixels=pixels)


@dataclass(frozen=True, eq=False)
class TensorColumn:
    """An array that is what the model takes already, apart from its width in bits."""

    array: np.ndarray
    spec: TensorSpec
    stacked: bool = False

    @property
    def sample_elements(self) -> int:
        return int(np.prod(self.array.shape[1:]))

    def __len__(self) -> int:
        return len(self.array)

    def take(self, indices: np.ndarray) -> np.ndarray:
        rows = self.array[indices]
        # Not ascontiguousarray, which turns a scalar into a vector.
        return np.asarray(rows[0] if self.stacked else rows, dtype=self.spec.dtype, order="C")

    def subset(self, indices: np.ndarray) -> TensorColumn:
        return replace(self, array=self.array[indices])


@dataclass(frozen=True, eq=False)
class Batch:
    """What one run of the model is fed."""

    feeds: Mapping[str, np.ndarray]
    indices: np.ndarray
    """The samples in it, as positions in the dataset. A model of a fixed batch size may be fed more rows than this
    at the end: the last sample again, whose outputs do not count."""

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples for one model, with or without labels."""

    spec: InputSpec
    columns: Mapping[str, Column] = field(repr=False)
    """Input name -> its samples, all of the same number."""
    labels: np.ndarray | None = field(repr=False)
    """int64 (samples,), none negative; None without labels."""
    source: Path
    """Where it was read from, for messages."""
    class_names: Sequence[str] = ()
    """Folder names in label order, when the labels are positions in the sorted list of class folders."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @cached_property
    def fixed_batch(self) -> int | None:
        """The batch size that the model or the data dictate; None when any will do."""
        if any(column.stacked for column in self.columns.values()):
            return 1
        sizes = (tensor.shape[0] for tensor in self.spec.inputs if tensor.shape)
        return next((size for size in sizes if size is not None), None)

    @cached_property
    def batch_size(self) -> int:
        """The dictated batch size, or one that keeps a batch of inputs small."""
        if self.fixed_batch is not None:
            return self.fixed_batch
        elements = sum(column.sample_elements for column in self.columns.values())
        return max(1, min(_BATCH_SAMPLES, _BATCH_ELEMENTS // max(1, elements)))

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        """The samples at these positions, in this order."""
        rows = np.asarray(indices, dtype=np.int64)
        columns = {name: column.subset(rows) for name, column in self.columns.items()}
        return replace(self, columns=columns, labels=None if self.labels is None else self.labels[rows])

    def unlabelled(self) -> Self:
        """The same samples without labels."""
        return replace(self, labels=None, class_names=())

    def feeds(self) -> dict[str, np.ndarray]:
        """Every sample at once, as the model takes them: input name -> (samples, ...).

        Raises:
            DataError: samples that are whole inputs and cannot share an array.
        """
        if any(column.stacked for column in self.columns.values()):
            raise DataError(f"{self.source}: samples that are whole inputs cannot be batched; use `batches`")
        return {name: column.take(np.arange(len(self))) for name, column in self.columns.items()}

    def batches(self, batch_size: int | None = None) -> Iterator[Batch]:
        """All samples in order, `batch_size` at a time unless the model dictates another size."""
        size = self.fixed_batch or batch_size or self.batch_size
        for start in range(0, len(self), size):
            indices = np.arange(start, min(start + size, len(self)))
            rows = indices
            if self.fixed_batch is not None and len(indices) < size:
                rows = np.pad(indices, (0, size - len(indices)), mode="edge")
            yield Batch({name: column.take(rows) for name, column in self.columns.items()}, indices)
