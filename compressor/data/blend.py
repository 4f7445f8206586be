"""Pairs of images laid over each other: questions that a net has not learned the answers to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from .dataset import Column, Dataset

__all__ = ["blended"]

_SHARE = (0.5, 0.9)
"""What the first image of a pair has of the blend."""


def blended(dataset: Dataset, seed: int = 0) -> Dataset | None:
    """Every image with some of another laid over it (as in Zhang et al., "mixup", ICLR 2018), without labels.

    A net agrees with itself about the images that it was trained on, whatever is done to it; about these it is less
    sure, as about images that it has never seen.

    Returns:
        As many samples as there are, made when they are taken; None where there is no image of floating point to
        blend, samples cannot share a run, or there is only one.
    """
    images = {spec.name for spec in dataset.spec.inputs if spec.image is not None and spec.dtype.kind == "f"}
    if not images or len(dataset) < 2 or any(column.stacked for column in dataset.columns.values()):
        return None
    rng = np.random.default_rng(seed)
    shares = rng.uniform(*_SHARE, len(dataset)).astype(np.float32)
    # Along one cycle, so that no image meets itself.
    order = rng.permutation(len(dataset))
    partners = np.empty_like(order)
    partners[order] = np.roll(order, 1)
    columns: Mapping[str, Column] = {
        name: _BlendedColumn(column, column.subset(partners), shares) if name in images else column
        for name, column in dataset.columns.items()
    }
    return replace(dataset.unlabelled(), columns=columns)


@dataclass(frozen=True, eq=False)
class _BlendedColumn:
    """Two columns, sample by sample."""

    first: Column
    second: Column
    shares: np.ndarray
    """Of the first, float32 (samples,)."""

    @property
    def stacked(self) -> bool:
        return False

    @property
    def sample_elements(self) -> int:
        return self.first.sample_elements

    def __len__(self) -> int:
        return len(self.first)

    def take(self, indices: np.ndarray) -> np.ndarray:
        one, other = self.first.take(indices), self.second.take(indices)
        share = self.shares[indices].reshape(-1, *[1] * (one.ndim - 1))
        return (share * one + (1 - share) * other).astype(one.dtype)

    def subset(self, indices: np.ndarray) -> _BlendedColumn:
        return _BlendedColumn(self.first.subset(indices), self.second.subset(indices), self.shares[indices])
