"""Training images in batches, shuffled and changed a little, the same for the same seed wherever one begins."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data import Dataset

__all__ = ["Images", "Loader"]

_SHIFT = 8
"""Images are shifted by up to one part in so many."""


@dataclass(frozen=True)
class Images:
    """One batch."""

    inputs: dict[str, Tensor]
    labels: Tensor | None
    """int64 (batch,)."""


class Loader:
    """Batches without end; step `n` is the same whenever it is asked for."""

    def __init__(self, dataset: Dataset, batch: int, *, augment: bool, seed: int, blends: float = 0.0) -> None:
        """
        Args:
            batch: images a step; of a dataset whose samples cannot share a run it is what the model dictates.
            augment: shift, mirror and blend image inputs.
            blends: share of the images that have another of the batch laid over them; labels do not say so.
        """
        self._dataset = dataset
        stacked = any(column.stacked for column in dataset.columns.values())
        self.batch = 1 if stacked else min(batch, len(dataset))
        self._images = {
            spec.name: spec.image.channels_last
            for spec in dataset.spec.inputs
            if augment and spec.image is not None and spec.dtype.kind == "f"
        }
        self._seed, self._blends = seed, blends
        self.steps_per_epoch = max(1, len(dataset) // self.batch)
        self._epoch = -1
        self._order = np.arange(0)

    def __len__(self) -> int:
        return len(self._dataset)

    def after(self, step: int) -> Iterator[Images]:
        """The batches from `step` on; the next is prepared while one is used."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.at, step)
            while True:
                images = coming.result()
                step += 1
                coming = pool.submit(self.at, step)
                yield images

    def at(self, step: int) -> Images:
        """The batch of one step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._dataset))
        rows = self._order[place * self.batch : (place + 1) * self.batch]
        rng = np.random.default_rng([self._seed, epoch, place, 1])
        inputs = {}
        for name, column in self._dataset.columns.items():
            values = column.take(rows)
            if name in self._images:
                values = _blended(_changed(values, self._images[name], rng), self._blends, rng)
            inputs[name] = torch.from_numpy(np.ascontiguousarray(values))
        labels = self._dataset.labels
        return Images(inputs, None if labels is None else torch.from_numpy(labels[rows]))


def _blended(images: np.ndarray, blends: float, rng: np.random.Generator) -> np.ndarray:
    """Some of the images with up to half of the one before laid over them (Zhang et al., "mixup", ICLR 2018)."""
    if not blends:
        return images
    shares = rng.uniform(0, 0.5, len(images)) * (rng.random(len(images)) < blends)
    shares = shares.astype(images.dtype).reshape(-1, *[1] * (images.ndim - 1))
    return (1 - shares) * images + shares * np.roll(images, 1, axis=0)


def _changed(images: np.ndarray, channels_last: bool, rng: np.random.Generator) -> np.ndarray:
    """Each image shifted, its edges repeated, and every second one mirrored."""
    tall, wide = (1, 2) if channels_last else (2, 3)
    height, width = images.shape[tall], images.shape[wide]
    down, right = height // _SHIFT, width // _SHIFT
    margins = [(0, 0)] * images.ndim
    margins[tall], margins[wide] = (down, down), (right, right)
    padded = np.pad(images, margins, mode="edge")
    out = np.empty_like(images)
    for place, image in enumerate(padded):
        y, x = rng.integers(0, 2 * down + 1), rng.integers(0, 2 * right + 1)
        cut = [slice(None)] * image.ndim
        cut[tall - 1], cut[wide - 1] = slice(y, y + height), slice(x, x + width)
        part = image[tuple(cut)]
        out[place] = np.flip(part, wide - 1) if rng.random() < 0.5 else part
    return out
