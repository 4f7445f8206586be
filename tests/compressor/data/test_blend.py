"""Blends of images."""

from pathlib import Path

import numpy as np

from ortrim.compressor.data.blend import blended
from ortrim.compressor.data.dataset import Dataset, PixelColumn, TensorColumn
from ortrim.compressor.data.preprocess import Preprocessing
from ortrim.compressor.data.spec import InputSpec, TensorSpec

IMAGES = TensorSpec("x", np.dtype(np.float32), (None, 3, 8, 8))
ROWS = TensorSpec("rows", np.dtype(np.float32), (None, 5))


def dataset(count=12, spec=IMAGES):
    """Images of one shade each, labelled by their number."""
    pixels = np.repeat(np.arange(count, dtype=np.uint8) * 20, 8 * 8 * 3).reshape(count, 8, 8, 3)
    column = PixelColumn(pixels, spec, Preprocessing())
    return Dataset(InputSpec((spec,)), {"x": column}, np.arange(count), Path("shades"))


def test_each_image_has_some_of_another_one():
    plain, mixed = dataset(), blended(dataset(), seed=1)
    assert len(mixed) == len(plain)
    assert mixed.labels is None
    shades = plain.feeds()["x"][:, 0, 0, 0]
    shown = mixed.feeds()["x"]
    assert shown.dtype == np.float32
    partners = []
    for place, image in enumerate(shown):
        assert np.ptp(image) < 1e-6
        # The share of the first image is between a half and nine tenths: which other one it was is then not unique,
        # but it cannot have been the image itself.
        others = [
            other
            for other in range(len(plain))
            if other != place and 0.5 <= 1 - (image[0, 0, 0] - shades[place]) / (shades[other] - shades[place]) <= 0.9
        ]
        partners.append(others)
    assert all(partners)


def test_the_same_seed_blends_the_same_images_however_they_are_taken():
    one, other = blended(dataset(), seed=3), blended(dataset(), seed=3)
    rows = [7, 2, 5]
    assert np.array_equal(one.feeds()["x"][rows], other.subset(rows).feeds()["x"])
    assert not np.array_equal(one.feeds()["x"], blended(dataset(), seed=4).feeds()["x"])


def test_what_is_no_image_of_floats_is_not_blended():
    values = np.random.default_rng(0).random((6, 5), np.float32)
    assert blended(Dataset(InputSpec((ROWS,)), {"rows": TensorColumn(values, ROWS)}, None, Path("rows"))) is None
    assert blended(dataset(spec=TensorSpec("x", np.dtype(np.uint8), (None, 3, 8, 8)))) is None
    assert blended(dataset(1)) is None


def test_other_inputs_go_along_unchanged():
    values = np.random.default_rng(0).random((12, 5), np.float32)
    columns = {**dataset().columns, "rows": TensorColumn(values, ROWS)}
    mixed = blended(Dataset(InputSpec((IMAGES, ROWS)), columns, None, Path("both")))
    assert np.array_equal(mixed.feeds()["rows"], values)
