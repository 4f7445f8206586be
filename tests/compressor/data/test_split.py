from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortrim.compressor.data import Dataset, InputSpec, Preprocessing, split, spread_order
from ortrim.compressor.data.dataset import PixelColumn
from ortrim.compressor.data.spec import TensorSpec
from ortrim.errors import DataError, InputError


def small_dataset(images, labels=None):
    tensor = TensorSpec("x", np.dtype(np.float32), (None, 1, 2, 2))
    return Dataset(InputSpec((tensor,)), {"x": PixelColumn(images, tensor, Preprocessing())}, labels, Path("d.npz"))


@given(st.integers(2, 90), st.integers(1, 60), st.integers(1, 60), st.integers(0, 40), st.integers(0, 5), st.booleans())
def test_splits_never_overlap(samples, calibration, reward, judging, seed, labelled):
    images = np.zeros((samples, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(samples)
    dataset = small_dataset(images, np.arange(samples) % 3 if labelled else None)
    parts = split(dataset, calibration, reward, seed, judging)
    calibrates, scores, judges, trains = (
        set(part.columns["x"].pixels[:, 0, 0, 0].tolist())
        for part in (parts.calibration, parts.reward, parts.judging, parts.training)
    )
    assert calibrates <= trains
    assert not trains & (scores | judges)
    left = samples - calibration - reward
    if judging and left >= judging / 2:
        assert not scores & judges
        assert len(judges) == min(judging, left)
    else:
        assert judges == scores
    assert trains | scores | judges == set(range(samples))
    ids = [part.columns["x"].pixels[:, 0, 0, 0].tolist() for part in (parts.calibration, parts.reward)]
    assert all(len(set(part)) == len(part) >= 1 for part in ids)
    if samples >= calibration + reward:
        assert (len(ids[0]), len(ids[1]), parts.note) == (calibration, reward, "")
    else:
        assert len(ids[0]) + len(ids[1]) == samples
        assert len(ids[0]) <= calibration
        assert len(ids[1]) <= reward
        assert str(samples) in parts.note
    assert parts.calibration.labels is None
    assert (parts.reward.labels is not None) == labelled


def test_a_third_scores_when_both_want_more():
    parts = split(small_dataset(np.zeros((10, 2, 2, 1), np.uint8)), 100, 100)
    assert (len(parts.calibration), len(parts.reward)) == (7, 3)
    parts = split(small_dataset(np.zeros((10, 2, 2, 1), np.uint8)), 100, 2)
    assert (len(parts.calibration), len(parts.reward)) == (8, 2)


def test_splits_are_seeded_and_reward_ignores_calibration():
    images = np.arange(400, dtype=np.uint8).reshape(100, 2, 2, 1)
    dataset = small_dataset(images, np.arange(100) % 10)
    same = [split(dataset, n, 20, seed=1).reward.columns["x"].pixels for n in (5, 50)]
    np.testing.assert_array_equal(*same)
    other = split(dataset, 5, 20, seed=2).reward.columns["x"].pixels
    assert not np.array_equal(same[0], other)
    np.testing.assert_array_equal(np.bincount(split(dataset, 5, 20, seed=1).reward.labels), [2] * 10)


def test_too_few_images():
    with pytest.raises(DataError, match="at least 2"):
        split(small_dataset(np.zeros((1, 2, 2, 1), np.uint8)), 1, 1)
    with pytest.raises(InputError, match="--calibration"):
        split(small_dataset(np.zeros((9, 2, 2, 1), np.uint8)), 0, 1)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 3))
def test_prefixes_hold_each_class_in_its_share(labels, seed):
    labels = np.array(labels)
    order = spread_order(len(labels), labels, seed)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
    shares = np.bincount(labels, minlength=5) / len(labels)
    for prefix in range(1, len(labels) + 1):
        counts = np.bincount(labels[order[:prefix]], minlength=5)
        # One away for the class's own rounding, and at most one for each of the others'.
        assert np.abs(counts - prefix * shares).max() <= 5
