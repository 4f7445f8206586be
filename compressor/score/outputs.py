"""Outputs of a model over a dataset, one row a sample."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from ...errors import ModelError
from ...runtime import Device, Model, open_session
from ..data import Dataset

__all__ = ["Rows", "as_rows", "run_batches", "sample_positions"]

Rows = np.ndarray
"""One output for the samples of a batch: axis 0 counts samples."""


def run_batches(
    model: Model, dataset: Dataset, device: Device, batch_size: int
) -> Iterator[tuple[tuple[str, ...], list[Rows]]]:
    """Names of the outputs, and their rows, batch after batch. The session lives as long as the iterator.

    Raises:
        ModelError: the model cannot be opened or does not fit the data, or an output has no rows (see `as_rows`).
        DeviceError: the device could not run it.
    """
    session = open_session(model, device)
    for batch in dataset.batches(batch_size):
        fed = dataset.fixed_batch or len(batch)
        outputs = session.run(batch.feeds)
        yield (
            session.outputs,
            [as_rows(name, output, fed)[: len(batch)] for name, output in zip(session.outputs, outputs, strict=True)],
        )


def as_rows(name: str, output: np.ndarray, fed: int) -> Rows:
    """`output` with `fed` samples on axis 0. When one sample was fed, an output without that axis is its row.

    Raises:
        ModelError: several samples were fed and the first axis does not count them.
    """
    if output.ndim and output.shape[0] == fed:
        return output
    if fed == 1:
        return output[np.newaxis]
    raise ModelError(
        f"output {name!r} is of shape {output.shape} for a batch of {fed}: its first axis is not the batch"
    )


@cache
def sample_positions(size: int, at_most: int) -> np.ndarray | slice:
    """Ascending positions in range(size), `at_most` of them, always the same ones; everything where it fits."""
    if size <= at_most:
        return slice(None)
    return np.sort(np.random.default_rng(size).choice(size, at_most, replace=False))
