"""Batches and the schedule."""

import numpy as np
import pytest

from ortrim.compressor.data.dataset import Dataset, PixelColumn, TensorColumn
from ortrim.compressor.data.preprocess import Preprocessing
from ortrim.compressor.data.spec import InputSpec, TensorSpec
from ortrim.compressor.distill.loader import Loader
from ortrim.compressor.distill.schedule import Ceiling, Clock, peak_rate, rate_at
from ortrim.compressor.distill.settings import Settings


@pytest.fixture
def dataset():
    """20 images of one colour each, which no shift or mirror changes, labelled by their number."""
    pixels = np.repeat(np.arange(20, dtype=np.uint8), 16 * 16 * 3).reshape(20, 16, 16, 3)
    spec = TensorSpec("x", np.dtype(np.float32), (None, 3, 16, 16))
    return Dataset(InputSpec((spec,)), {"x": PixelColumn(pixels, spec, Preprocessing())}, np.arange(20), "pixels")


def test_an_epoch_has_every_image_once_with_its_label(dataset):
    loader = Loader(dataset, 5, augment=True, seed=0)
    assert loader.steps_per_epoch == 4
    for epoch in range(2):
        seen = []
        for step in range(4):
            batch = loader.at(4 * epoch + step)
            shown = np.round(batch.inputs["x"].numpy()[:, 0, 3, 3] * 255)
            assert np.array_equal(shown, batch.labels.numpy())
            seen += shown.tolist()
        assert sorted(seen) == list(range(20))
    assert not np.array_equal(loader.at(0).labels, loader.at(4).labels)


def test_a_step_is_the_same_whenever_it_is_asked_for(dataset):
    one, two = (Loader(dataset, 6, augment=True, seed=3) for _ in range(2))
    stream = one.after(5)
    for step in (5, 6, 7):
        assert np.array_equal(next(stream).inputs["x"], two.at(step).inputs["x"])


def test_some_images_have_another_of_their_batch_laid_over_them(dataset):
    plain = Loader(dataset.unlabelled(), 20, augment=True, seed=0).at(0).inputs["x"].numpy()
    blended = Loader(dataset.unlabelled(), 20, augment=True, seed=0, blends=0.5).at(0).inputs["x"].numpy()
    changed = [number for number in range(20) if not np.array_equal(plain[number], blended[number])]
    assert 4 <= len(changed) <= 16
    for number in changed:
        share = (blended[number] - plain[number]) / (plain[number - 1] - plain[number])
        assert 0 < share.mean() <= 0.5
        assert share.std() < 1e-5  # these images are of one colour


def _cut(padded, y, x, flip):
    part = padded[y : y + 16, x : x + 16]
    return np.flip(part, 1) if flip else part


def test_images_are_shifted_and_mirrored_and_nothing_else():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    spec = TensorSpec("x", np.dtype(np.float32), (None, 16, 16, 3))
    dataset = Dataset(InputSpec((spec,)), {"x": PixelColumn(pixels, spec, Preprocessing())}, np.arange(4), "pixels")
    mirrored = 0
    for step in range(12):
        batch = Loader(dataset, 4, augment=True, seed=step).at(0)
        for image, label in zip(batch.inputs["x"].numpy(), batch.labels.numpy(), strict=True):
            padded = np.pad(pixels[label] / np.float32(255), ((2, 2), (2, 2), (0, 0)), mode="edge")
            places = [
                flip
                for y in range(5)
                for x in range(5)
                for flip in (False, True)
                if np.allclose(image, _cut(padded, y, x, flip))
            ]
            assert len(places) == 1
            mirrored += places[0]
    assert 10 < mirrored < 38


def test_what_is_no_image_is_left_as_it_is():
    spec = TensorSpec("x", np.dtype(np.float32), (None, 7))
    values = np.random.default_rng(0).random((9, 7), np.float32)
    dataset = Dataset(InputSpec((spec,)), {"x": TensorColumn(values, spec)}, None, "arrays")
    batch = Loader(dataset, 9, augment=True, seed=0).at(0)
    assert batch.labels is None
    assert sorted(batch.inputs["x"][:, 0].tolist()) == sorted(values[:, 0].tolist())


def test_the_rate_rises_and_falls():
    settings = Settings(epochs=1, rate=0.2, warm_up=0.1)
    rates = [rate_at(done, settings, 100) for done in np.linspace(0, 1, 101)]
    assert rates[0] == 0
    assert max(rates) == rates[10] == pytest.approx(0.2)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.1)
    assert rates[100] == 0


def test_a_longer_schedule_goes_higher():
    peaks = [peak_rate(steps) for steps in (1, 25, 100, 400, 10**6)]
    assert peaks == sorted(peaks)
    assert peaks[1:4] == pytest.approx([0.005, 0.01, 0.02])
    assert 0 < peaks[0] < peaks[-1] < 0.1
    settings = Settings(epochs=1)
    assert rate_at(settings.warm_up, settings, 400) == pytest.approx(peak_rate(400))


def test_the_number_of_steps_is_known_or_told_by_the_time_they_took():
    assert Clock(Settings(epochs=2), steps_per_epoch=50).expected(1) == 100
    clock = Clock(Settings(minutes=1), steps_per_epoch=50, spent=15)
    assert clock.expected(20) == pytest.approx(80, rel=0.01)


def test_a_loss_that_rises_above_its_beginning_lowers_the_peak():
    ceiling = Ceiling()
    for loss in (1.0, 1.2, 0.8, 1.1, 0.9) * 2:
        ceiling.told(loss, rate=0.001, done=0.0)
    for loss in (1.1, 1.2, 1.3, 1.4, 1.4) * 2:  # not by enough
        ceiling.told(loss, rate=0.01, done=0.1)
    assert not ceiling.anew
    assert ceiling.most == float("inf")
    said = []
    for _ in range(8):
        ceiling.told(2.0, rate=0.02, done=0.2)
        said.append(ceiling.anew)
    assert said.count(True) == 1
    assert ceiling.most == pytest.approx(0.01)
    for _ in range(9):
        ceiling.told(9.0, rate=0.01, done=0.6)  # too late
    assert not ceiling.anew
    lost = Ceiling()
    for loss in [1.0] * 10 + [float("nan")] * 10:
        lost.told(loss, rate=0.02, done=0.1)
    assert lost.most == pytest.approx(0.01)
    again = Ceiling(ceiling.state)
    assert again.state == ceiling.state
    settings = Settings(epochs=1)
    assert rate_at(settings.warm_up, settings, 10**6, again.most) == pytest.approx(0.01)
    # What the user says holds.
    assert rate_at(0.05, Settings(epochs=1, rate=0.5), 10**6, again.most) == pytest.approx(0.5)
