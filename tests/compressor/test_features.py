"""Which axis of an output holds its features."""

import numpy as np
import pytest

from ortrim.compressor.features import features_of


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3549, 85), 1),  # cells x features
        ((84, 8400), 0),  # features x cells
        ((64, 8, 8), 0),  # channels first
        ((32, 32, 3), 2),  # channels last
        ((10, 1, 1), 0),  # classes
        ((5, 5), 0),
    ],
)
def test_features_lie_along(shape, axis):
    numbers = np.indices(shape)[axis].ravel()
    np.testing.assert_array_equal(features_of(shape), numbers)


@pytest.mark.parametrize("shape", [(), (10,), (0, 4), (4, 0)])
def test_without_several_axes_there_are_none(shape):
    assert features_of(shape) is None
