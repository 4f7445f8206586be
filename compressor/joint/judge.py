"""The reward: how well the net does on held-out images with some channels off, once BatchNormalization knows of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ...graph.torch_module import OnnxModule
from ..data import Dataset
from ..mixed import MixedPrecision
from .masks import Masks, Removal
from .traced import Normalization
from .weights import placed

__all__ = ["Judge"]

EVALUATED = 500
"""Images at a time when accuracy is measured."""


class Judge:
    """Scores a module as it is, or under a mask; leaves it as it was."""

    def __init__(
        self,
        module: OnnxModule,
        masks: Masks | None,
        normalizations: Sequence[Normalization],
        training: Dataset,
        held_out: Dataset,
        *,
        batch: int,
        batches: int,
        seed: int,
        device: torch.device,
        precision: MixedPrecision,
    ) -> None:
        """
        Args:
            training: images that BatchNormalization is re-estimated on: `batches` times `batch` of them, always the
                same ones and unchanged, so that rewards can be compared.
            held_out: labelled images that take no part in training.
        """
        self._module, self._masks, self._normalizations = module, masks, normalizations
        self._device, self._precision = device, precision
        self.held_out = held_out
        few = np.random.default_rng([seed, 2]).permutation(len(training))[: batch * batches]
        self._few = training.subset(np.sort(few))
        self._batch = min(batch, len(few))

    def accuracy(self) -> float:
        """Top-1 on the held-out images, with the statistics that BatchNormalization has."""
        right = 0
        self._module.eval()
        for images, labels in self._batches(self.held_out, EVALUATED):
            right += int((self._say(images).argmax(dim=1) == labels).sum())
        return right / len(self.held_out)

    def reward(self, removal: Removal) -> float:
        """Top-1 of the net with the units off and BatchNormalization re-estimated; both are put back."""
        assert self._masks is not None, "a net that is not pruned has no masks"
        with self._masks.off(removal), self._statistics():
            self.reestimate()
            return self.accuracy()

    @torch.no_grad()
    def reestimate(self) -> None:
        """Give BatchNormalization the mean over batches of what it sees (no running average, whose start would count).

        Statistics are read off one batch at a time: from 0, a batch leaves its share of them in the buffers (which is
        never 0, see `traced`).
        """
        if not self._normalizations:
            return
        values = self._module.initializers
        buffers = [(values[name], n.share) for n in self._normalizations for name in (n.mean, n.variance)]
        sums = [torch.zeros_like(buffer) for buffer, _ in buffers]
        count = 0
        self._module.train()
        for images, _ in self._batches(self._few, self._batch):
            if len(images) < self._batch:
                continue  # a rest of one image has no variance
            for buffer, _ in buffers:
                buffer.zero_()
            self._say(images)
            for total, (buffer, share) in zip(sums, buffers, strict=True):
                total += buffer / share
            count += 1
        for total, (buffer, _) in zip(sums, buffers, strict=True):
            buffer.copy_(total / count)
        self._module.eval()

    @contextmanager
    def _statistics(self) -> Iterator[None]:
        """What happens to BatchNormalization's statistics inside is undone."""
        values = self._module.initializers
        names = [name for n in self._normalizations for name in (n.mean, n.variance)]
        before = {name: values[name].clone() for name in names}
        try:
            yield
        finally:
            for name, value in before.items():
                values[name].copy_(value)

    def _batches(self, dataset: Dataset, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        labels = dataset.labels
        assert labels is not None
        for batch in dataset.batches(size):
            (array,) = batch.feeds.values()
            images = placed(torch.from_numpy(array[: len(batch)]), self._device)
            yield images, torch.from_numpy(labels[batch.indices]).to(self._device)

    @torch.no_grad()
    def _say(self, images: Tensor) -> Tensor:
        with self._precision():
            said = self._module(images)
        assert isinstance(said, Tensor)
        return said
