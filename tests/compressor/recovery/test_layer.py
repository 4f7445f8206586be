"""Rows of one layer, batch by batch and as a whole."""

import weakref

import numpy as np
import pytest

from ortrim.compressor.recovery.layer import Rows, joined


def rows(samples, generator):
    """Three rows a sample."""
    return Rows(*(generator.standard_normal((2, height, 3 * samples)).astype(np.float32) for height in (5, 4, 4)))


@pytest.mark.parametrize("samples", [(4,), (4, 4), (4, 4, 1)])
def test_rows_of_all_batches_lie_in_their_order(samples):
    generator = np.random.default_rng(0)
    parts = [rows(count, generator) for count in samples]
    whole = joined(iter(parts), samples)
    assert whole.count == 3 * sum(samples)
    for place, array in enumerate(whole.arrays):
        np.testing.assert_array_equal(array, np.concatenate([part.arrays[place] for part in parts], axis=2))


def test_no_batch_is_kept_beside_the_ones_after_the_next():
    """Small arrays between the activations of batches keep the allocator from giving anything back."""
    seen = []

    def read():
        for number in range(3):
            part = rows(2, np.random.default_rng(number))
            seen.append(weakref.ref(part.columns))
            yield part
            del part
            assert all(earlier() is None for earlier in seen[:number])

    assert joined(read(), (2, 2, 2)).count == 18
    assert len(seen) == 3
