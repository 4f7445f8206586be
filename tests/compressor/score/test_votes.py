"""Accuracy, agreement and class maps: what a net votes for."""

import numpy as np
import pytest

from ortrim.compressor.score.outputs import sample_positions
from ortrim.errors import DataError

from .conftest import EYE, FLOAT, FLOAT16, SAMPLES, build, dataset, linear, model, per_pixel


def test_accuracy_with_labels():
    scorer = build(linear(EYE), dataset(SAMPLES, [0, 1, 2, 1, 2]))
    assert (scorer.baseline.kind, scorer.baseline.detail, scorer.baseline.value) == ("accuracy", "top-1", 0.8)
    swapped = scorer.score(linear(EYE[:, [1, 0, 2]]))
    assert swapped.value == pytest.approx(3 / 5)
    shares = np.exp(SAMPLES) / np.exp(SAMPLES).sum(1, keepdims=True)
    assert scorer.baseline.soft == pytest.approx(shares[np.arange(5), [0, 1, 2, 1, 2]].mean(), rel=1e-6)


def test_the_soft_score_orders_ties():
    scorer = build(linear(EYE), dataset(SAMPLES, [0, 1, 2, 0, 2]))
    strong, weak = scorer.score(linear(EYE)), scorer.score(linear(EYE * 0.1))
    assert strong.value == weak.value == 1
    assert strong.for_search > weak.for_search
    assert 0 <= weak.for_search <= 1


def test_probabilities_and_logits_agree():
    data = dataset(SAMPLES, [0, 1, 2, 1, 2])
    scores = [build(network, data).baseline for network in (linear(EYE), linear(EYE, "Softmax"))]
    assert scores[0].value == scores[1].value
    assert scores[0].soft == pytest.approx(scores[1].soft, rel=1e-5)


def test_labels_may_be_shifted():
    background = linear(np.eye(3, 4, k=1))
    data = dataset(SAMPLES, [0, 1, 2, 0, 2])
    assert build(background, data, label_offset=1).baseline.value == 1
    shifted = build(background, data)
    assert shifted.baseline.value == 0
    assert "--label-offset be 1" in shifted.notes[0]
    assert not build(background, data, label_offset=1).notes
    assert "--label-offset be 1" in build(background, data, label_offset=0).notes[0]


def test_two_images_are_no_reason_to_shift_labels():
    data = dataset(np.concatenate([SAMPLES] * 4)[:20], [0, 1] + [0, 3, 0] + [3, 0, 0, 3, 0] * 3)
    shifted = build(linear(np.eye(3, 4, k=1)), data)
    assert shifted.baseline.value < 0.5
    assert not any("--label-offset" in note for note in shifted.notes)


def test_labels_beyond_the_classes():
    with pytest.raises(DataError, match=r"d.npz: label 3 is beyond the model's classes 0..2"):
        build(linear(EYE), dataset(SAMPLES, [0, 1, 3, 1, 2]))
    with pytest.raises(DataError, match=r"label 2 .* --label-offset 1"):
        build(linear(EYE), dataset(SAMPLES, [0, 1, 2, 1, 2]), label_offset=1)


def test_class_folders_must_be_all_the_classes():
    data = dataset(SAMPLES, [0, 1, 0, 1, 1], class_names=("cat", "dog"))
    with pytest.raises(DataError, match=r"2 class folders and the model 3 classes.*--label-offset 1"):
        build(linear(EYE), data)
    assert build(linear(EYE), data, label_offset=1).measure.kind == "accuracy"


def test_accuracy_a_class():
    data = dataset(SAMPLES, [0, 1, 2, 1, 2], class_names=("cat", "dog", "eel"))
    score, classes = build(linear(EYE), data).detailed(linear(EYE[:, [1, 0, 2]]))
    assert score.value == pytest.approx(3 / 5)
    assert [(c.label, c.name, c.samples, c.baseline, c.value) for c in classes] == [
        (0, "cat", 1, 1, 0),
        (1, "dog", 2, 0.5, 0.5),
        (2, "eel", 2, 1, 1),
    ]


def test_agreement_without_labels():
    scorer = build(linear(EYE - 1), dataset(SAMPLES))
    assert (scorer.baseline.kind, scorer.baseline.value) == ("agreement", 1)
    assert scorer.baseline.soft == pytest.approx(1)
    score = scorer.score(linear(EYE[:, [1, 0, 2]] - 1))
    assert score.value == pytest.approx(2 / 5)
    assert 0 < score.soft < 1
    assert [c.value for c in scorer.detailed(linear(EYE[:, [1, 0, 2]] - 1))[1]] == [0, 0, 1]
    assert [c.value for c in scorer.baseline_detailed()[1]] == [1, 1, 1]


def test_a_classifier_of_shape_nk11():
    network = model(
        [("MatMul", "x w", "z", {}), ("Unsqueeze", "z axes", "y", {})],
        [("x", FLOAT, ["N", 3])],
        [("y", FLOAT, ["N", 3, 1, 1])],
        w=(EYE - 1).astype(np.float32),
        axes=np.array([2, 3]),
    )
    assert build(network, dataset(SAMPLES)).baseline.detail == "top-1"
    assert build(network, dataset(SAMPLES, [0, 1, 2, 0, 2])).baseline.value == 1


def test_fp16_outputs():
    network = model(
        [("MatMul", "x w", "z", {}), ("Softmax", "z", "s", {}), ("Cast", "s", "y", {"to": FLOAT16})],
        [("x", FLOAT, ["N", 3])],
        [("y", FLOAT16, ["N", 3])],
        w=EYE.astype(np.float32),
    )
    scorer = build(network, dataset(SAMPLES))
    assert scorer.measure.probabilities
    assert scorer.score(network).value == 1


def test_nan_never_agrees():
    scorer = build(linear(EYE - 1), dataset(SAMPLES))
    for bad in (np.nan, np.inf):
        score = scorer.score(linear(np.full((3, 3), bad)))
        assert (score.value, score.soft) == (0, 0)


def test_coordinates_are_no_classes():
    """Outputs at or above zero that do not sum to one, as face landmarks are."""
    scorer = build(linear(EYE, "Relu"), dataset(SAMPLES))
    assert scorer.baseline.detail == "output error"
    assert not scorer.notes


def test_one_class_for_all_says_nothing():
    scorer = build(linear(EYE, "Softmax"), dataset(np.tile(SAMPLES[0], (4, 1)) * [[1], [2], [3], [4]]))
    assert scorer.baseline.detail == "output error"
    assert "class 0 in every one of 4 images" in scorer.notes[0]


def test_class_maps_count_pixels():
    images = np.linspace(-1, 1, 40).reshape(2, 1, 4, 5)
    scorer = build(per_pixel([1, -1]), dataset(images, network=per_pixel([1, -1])))
    assert scorer.baseline.detail == "top-1 of each pixel"
    assert scorer.score(per_pixel([2, -2])).value == 1
    assert scorer.score(per_pixel([-1, 1])).value == 0
    assert scorer.detailed(per_pixel([1, -1])) == (scorer.baseline, ())


def test_three_planes_are_an_image():
    images = np.linspace(-1, 1, 40).reshape(2, 1, 4, 5)
    network = per_pixel([1, -1, 2])
    assert build(network, dataset(images, network=network)).baseline.detail == "output error"


def test_large_outputs_are_sampled_alike(monkeypatch):
    chosen = sample_positions(1000, 10)
    np.testing.assert_array_equal(chosen, sample_positions(1000, 10))
    assert len(set(chosen.tolist())) == 10
    assert sample_positions(10, 10) == slice(None)
    monkeypatch.setattr("ortrim.compressor.score.choose._ELEMENTS", 1)
    monkeypatch.setattr("ortrim.compressor.score.choose._FEWEST", 8)
    images = np.random.default_rng(0).normal(size=(2, 1, 4, 5))
    scorer = build(per_pixel([1, -1]), dataset(images, network=per_pixel([1, -1])))
    assert scorer.measure.reference.shape == (2, 4, 2)
    assert scorer.score(per_pixel([2, -2])).value == 1
