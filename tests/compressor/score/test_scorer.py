"""Running nets over data and scoring them, and `evaluate`."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from ortrim.compressor.data import InputSpec, Preprocessing, load_data
from ortrim.compressor.data.dataset import PixelColumn
from ortrim.compressor.score import evaluate, measures
from ortrim.errors import DataError, InputError, ModelError

from .conftest import EYE, FLOAT, ONE_THREAD, SAMPLES, build, dataset, linear, model, per_pixel, two_outputs

SHARED = Path(__file__).parents[4] / "shared" / "data"


def test_a_batch_of_one_that_is_baked_in():
    """An input that says N, and a Reshape that says 1."""
    network = model(
        [("Reshape", "x shape", "r", {}), ("MatMul", "r w", "y", {})],
        [("x", FLOAT, ["N", 3])],
        [("y", FLOAT, [1, 3])],
        shape=np.array([1, 3]),
        w=(EYE - 1).astype(np.float32),
    )
    scorer = build(network, dataset(SAMPLES))
    assert scorer.batch_size == 1
    assert scorer.score(network).value == 1


def test_a_fixed_batch_with_a_remainder():
    network = model(
        [("MatMul", "x w", "y", {})], [("x", FLOAT, [2, 3])], [("y", FLOAT, [2, 3])], w=EYE.astype("f4") - 1
    )
    scorer = build(network, dataset(SAMPLES, [0, 1, 2, 0, 0], network=network))
    assert scorer.measure.reference.shape == (5, 1, 3)
    assert scorer.baseline.value == pytest.approx(4 / 5)


def test_batches_do_not_change_the_score():
    data = dataset(SAMPLES, [0, 1, 2, 1, 2])
    scores = [build(linear(EYE), data, batch_size=size).baseline for size in (1, 2, 5)]
    assert len({score.value for score in scores}) == 1
    assert scores[0].soft == pytest.approx(scores[2].soft)


def test_an_original_that_computes_nan():
    with pytest.raises(ModelError, match=r"output 'y' of the original holds NaN .* d.npz.*preprocessing"):
        build(linear(np.full((3, 3), np.nan)), dataset(SAMPLES))


def test_a_model_that_does_not_fit_the_data():
    with pytest.raises(ModelError) as caught:
        build(linear(np.eye(4)), dataset(SAMPLES))
    assert "\n" not in str(caught.value)


def test_images_from_a_file(tmp_path):
    network = per_pixel([1, -1])
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", images=images)
    spec = InputSpec.from_model(network)
    data = load_data(tmp_path / "d.npz", spec, Preprocessing.parse(scale=1, offset=-128))
    assert isinstance(data.columns["x"], PixelColumn)
    scorer = build(network, data)
    bright = images > 128
    score = scorer.score(per_pixel([1, 1]))
    assert score.value == pytest.approx(np.mean(bright | (images == 128)))
    assert data.feeds()["x"].shape == (3, 1, 4, 5)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the images and models of ../shared")
def test_a_real_classifier_on_real_images():
    network = onnx.load(SHARED / "models/imagenet/mobilenet_v1_0.25_128.onnx")
    pixels = Preprocessing.parse(scale=1 / 128, offset=-1)
    data = load_data(SHARED / "imagenet/val", InputSpec.from_model(network), pixels)
    assert "--label-offset be 1" in build(network, data).notes[0]
    result = evaluate(network, data, device=ONE_THREAD, label_offset=1)
    # 38.0 % on 500 images, of which these are half.
    assert result.score.value == pytest.approx(0.38, abs=0.05)
    assert len(result.per_class) == 10


def test_evaluate():
    labelled, bare = dataset(SAMPLES, [0, 1, 2, 1, 2]), dataset(SAMPLES)
    plain = evaluate(linear(EYE), labelled, device=ONE_THREAD)
    assert (plain.score.kind, plain.score.value, plain.samples) == ("accuracy", 0.8, 5)
    assert [c.samples for c in plain.per_class] == [1, 2, 2]
    compared = evaluate(linear(EYE[:, [1, 0, 2]]), labelled, reference=linear(EYE - 1), device=ONE_THREAD)
    assert (compared.score.kind, compared.score.value) == ("agreement", pytest.approx(2 / 5))
    with pytest.raises(InputError, match="--reference"):
        evaluate(linear(EYE), bare, device=ONE_THREAD)
    with pytest.raises(DataError, match="need a classifier"):
        evaluate(two_outputs(EYE, EYE), labelled, device=ONE_THREAD)


def test_scores_stay_in_range():
    generator = np.random.default_rng(0)
    scorer = build(linear(generator.normal(size=(3, 4))), dataset(generator.normal(size=(50, 3))))
    for scale in (0.01, 1, 100, 1e30):
        score = scorer.score(linear(scale * generator.normal(size=(3, 4))))
        assert isinstance(score, measures.Score)
        assert 0 <= score.value <= 1
        assert 0 <= score.soft <= 1
