"""Which numbers of an output say the same kind of thing.

A detector's output holds offsets of boxes, whose variance is large, beside probabilities that are all but 0 nearly
everywhere. Errors added up over all of them say whether cells without a box keep their offsets; with every feature
measured by its own variance they say whether boxes are found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["LIVE", "feature_axis", "features_of"]

LIVE = 1e-6
"""Least variance of a feature that counts, as a share of the largest one's: below, it does not depend on the input."""


def feature_axis(shape: Sequence[int]) -> int | None:
    """The axis of a sample's output along which its features lie.

    The last one where that is the shortest (cells x features, height x width x channels), else the first (channels x
    height x width); None for a vector or a single number, whose entries are compared together.
    """
    if len(shape) < 2 or min(shape) < 1:
        return None
    return len(shape) - 1 if shape[-1] < min(shape[:-1]) else 0


def features_of(shape: Sequence[int]) -> np.ndarray | None:
    """The feature that each number of a sample's output belongs to, integers (numbers,) in the order of `ravel`.

    Args:
        shape: of one sample.

    Returns:
        None where there are none (see `feature_axis`).
    """
    axis = feature_axis(shape)
    if axis is None:
        return None
    along = [1] * len(shape)
    along[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis]).reshape(along), shape).ravel()
