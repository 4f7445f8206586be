from pathlib import Path

import numpy as np
import pytest

from ortrim.compressor.data import Preprocessing, load_data
from ortrim.errors import InputError

RANDOM = np.random.default_rng(0)


def pixels(samples=5, height=8, width=6, channels=3):
    return RANDOM.integers(0, 256, (samples, height, width, channels), dtype=np.uint8)


def save(path: Path, **arrays):
    np.savez(path, **arrays)
    return path


def test_preprocessing():
    image = np.array([[0, 255, 51]], dtype=np.uint8)
    np.testing.assert_allclose(Preprocessing.parse().apply(image), [[0, 1, 0.2]], rtol=1e-6)
    moments = Preprocessing.parse(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    np.testing.assert_allclose(moments.apply(image), [[-2.5, 3.0, -1.0]], rtol=1e-5)
    np.testing.assert_allclose(Preprocessing.parse(scale=1 / 128, offset=-1).apply(image)[0, 0], -1)
    np.testing.assert_allclose(Preprocessing.parse(offset=-128).apply(image)[0, 1], 127)
    assert moments.apply(image).dtype == np.float32


@pytest.mark.parametrize(
    "flags",
    [
        {"mean": (0.5,), "scale": 1.0},
        {"mean": (0.5,), "std": (0.5, 0.5)},
        {"mean": (0.5,), "std": (0.0,)},
        {"mean": (float("nan"),)},
        {"mean": (124.0, 116.0, 104.0)},
        {"scale": 0.0},
        {"scale": float("inf")},
    ],
)
def test_nonsense_flags(flags):
    with pytest.raises(InputError, match="--"):
        Preprocessing.parse(**flags)


def test_one_number_a_channel(tmp_path, image_spec):
    path = save(tmp_path / "d.npz", images=pixels(channels=1))
    three = Preprocessing.parse(mean=(0.1, 0.2, 0.3))
    with pytest.raises(InputError, match=r"--mean/--std gives 3 numbers.*1 channel"):
        load_data(path, image_spec(("N", 1, 8, 6)), three)
    load_data(path, image_spec(("N", 1, 8, 6)), Preprocessing.parse(mean=(0.1,)))
