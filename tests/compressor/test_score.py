from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.compressor.data import Dataset, InputSpec, Preprocessing, load_data
from ortrim.compressor.data.dataset import PixelColumn, TensorColumn
from ortrim.compressor.score import Scorer, evaluate, measures
from ortrim.compressor.score.outputs import sample_positions
from ortrim.errors import DataError, InputError, ModelError
from ortrim.runtime import Device

SHARED = Path(__file__).parents[3] / "shared" / "data"
FLOAT, FLOAT16, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
ONE_THREAD = Device("cpu", threads=1)


def model(nodes, inputs, outputs, **constants):
    """A model from `(op, inputs, outputs, attributes)` tuples."""
    graph = helper.make_graph(
        [helper.make_node(op, ins.split(), outs.split(), **attributes) for op, ins, outs, attributes in nodes],
        "test",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def linear(weight, activation=None):
    """x (N, features) -> x @ weight (N, classes), through an activation."""
    weight = np.asarray(weight, np.float32)
    nodes = [("MatMul", "x w", "z", {}), (activation or "Identity", "z", "y", {})]
    inputs = [("x", FLOAT, ["N", weight.shape[0]])]
    return model(nodes, inputs, [("y", FLOAT, ["N", weight.shape[1]])], w=weight)


def per_pixel(weight, height=4, width=5):
    """x (N, 1, H, W) -> (N, classes, H, W): a 1x1 convolution."""
    weight = np.asarray(weight, np.float32).reshape(-1, 1, 1, 1)
    shape = ["N", len(weight), height, width]
    return model([("Conv", "x w", "y", {})], [("x", FLOAT, ["N", 1, height, width])], [("y", FLOAT, shape)], w=weight)


def dataset(array, labels=None, class_names=(), network=None):
    array = np.asarray(array, np.float32)
    spec = InputSpec.from_model(network or linear(np.zeros((array.shape[1], 2))))
    labels = None if labels is None else np.asarray(labels, np.int64)
    return Dataset(spec, {"x": TensorColumn(array, spec.inputs[0])}, labels, Path("d.npz"), class_names)


def build(network, data, **options):
    return Scorer.build(network, data, ONE_THREAD, **options)


EYE = np.eye(3)
SAMPLES = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [2, 1, 0], [0, 1, 2]])


# --- accuracy


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


# --- agreement


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


# --- class maps


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


# --- closeness


def two_outputs(a, b):
    nodes = [("MatMul", "x a", "p", {}), ("MatMul", "x b", "q", {})]
    outputs = [("p", FLOAT, ["N", 3]), ("q", FLOAT, ["N", 3])]
    arrays = {"a": np.asarray(a, np.float32), "b": np.asarray(b, np.float32)}
    return model(nodes, [("x", FLOAT, ["N", 3])], outputs, **arrays)


def test_closeness_is_the_share_of_variation_kept():
    scorer = build(two_outputs(EYE, 2 * EYE), dataset(SAMPLES))
    assert (scorer.baseline.kind, scorer.baseline.detail) == ("agreement", "output error")
    score = scorer.score(two_outputs(0.9 * EYE, 2 * EYE))
    variation = ((SAMPLES - SAMPLES.mean(0)) ** 2).sum()
    error = ((0.1 * SAMPLES) ** 2).sum() / variation
    assert score.value == pytest.approx(1 - error / 2, rel=1e-5)
    assert score.soft == pytest.approx((1 / (1 + error) + 1) / 2, rel=1e-5)


def detector(confidence):
    """x (N, 3) -> (N, 3 cells, 2): an offset that is a hundred times as large as the confidence beside it."""
    to_both = np.stack([100 * EYE, confidence * EYE], axis=2).reshape(3, 6)
    nodes = [("MatMul", "x w", "z", {}), ("Reshape", "z shape", "y", {})]
    return model(
        nodes,
        [("x", FLOAT, ["N", 3])],
        [("y", FLOAT, ["N", 3, 2])],
        w=to_both.astype(np.float32),
        shape=np.array([0, 3, 2]),
    )


def test_every_feature_counts_by_its_own_variance():
    scorer = build(detector(1.0), dataset(SAMPLES))
    assert scorer.score(detector(1.0)).value == 1
    blind = scorer.score(detector(0.0))
    error = (SAMPLES**2).sum() / ((SAMPLES - SAMPLES.mean(0)) ** 2).sum()
    assert blind.value == pytest.approx(0.5 * (1 + max(0, 1 - error)))
    assert blind.soft == pytest.approx(0.5 * (1 + 1 / (1 + error)), rel=1e-5)
    lost = scorer.score(detector(np.nan))
    assert lost.value == 0
    assert lost.soft == pytest.approx(0.5)
    one = build(detector(1.0), dataset(SAMPLES[:1]))
    assert one.score(detector(1.0)).value == 1 > one.score(detector(0.9)).value > 0.9
    # A feature that never varies says nothing.
    assert build(detector(0.0), dataset(SAMPLES)).score(detector(1e-3)).value == 1


def test_closeness_ends_at_zero_where_soft_goes_on():
    scorer = build(two_outputs(EYE, EYE), dataset(SAMPLES))
    bad, worse = (scorer.score(two_outputs(k * EYE, k * EYE)) for k in (5, 9))
    assert bad.value == worse.value == 0
    assert bad.for_search > worse.for_search > 0
    lost = scorer.score(two_outputs(np.full((3, 3), np.nan), np.full((3, 3), np.nan)))
    assert lost.value == 0


def test_outputs_that_do_not_vary():
    constant = model(
        [("Mul", "x zero", "z", {}), ("Add", "z c", "p", {}), ("Identity", "x", "q", {})],
        [("x", FLOAT, ["N", 3])],
        [("p", FLOAT, ["N", 3]), ("q", FLOAT, ["N", 3])],
        zero=np.float32(0),
        c=np.float32([1, 2, 3]),
    )
    scorer = build(constant, dataset(SAMPLES))
    assert scorer.score(constant).value == 1
    other = scorer.score(two_outputs(np.zeros((3, 3)), EYE))
    assert other.value == pytest.approx(0.5)
    zeros = build(two_outputs(np.zeros((3, 3)), EYE), dataset(SAMPLES))
    assert zeros.score(two_outputs(np.zeros((3, 3)), EYE)).value == 1
    assert zeros.score(two_outputs(EYE, EYE)).value == 0.5


def test_one_sample_is_compared_within_itself():
    scorer = build(two_outputs(EYE, EYE), dataset(SAMPLES[:1]))
    assert scorer.score(two_outputs(EYE, EYE)).value == 1
    assert 0 < scorer.score(two_outputs(0.9 * EYE, EYE)).value < 1


def test_integer_outputs_count_equal_elements():
    def network(weight):
        nodes = [("MatMul", "x w", "z", {}), ("ArgMax", "z", "y", {"axis": 1, "keepdims": 0})]
        return model(nodes, [("x", FLOAT, ["N", 3])], [("y", INT64, ["N"])], w=np.asarray(weight, np.float32))

    score = build(network(EYE), dataset(SAMPLES)).score(network(EYE[:, [1, 0, 2]]))
    assert (score.value, score.kind) == (pytest.approx(2 / 5), "agreement")


def test_rows_of_changing_length():
    """As detectors with suppression have: as many values as the input has non-zero elements."""

    def network(scale):
        nodes = [("NonZero", "x", "at", {}), ("Cast", "at", "f", {"to": FLOAT}), ("Mul", "f s", "y", {})]
        return model(nodes, [("x", FLOAT, ["N", 3])], [("y", FLOAT, [2, "M"])], s=np.float32(scale))

    scorer = build(network(1), dataset(SAMPLES))
    assert scorer.batch_size == 1
    assert scorer.score(network(1)).value == 1
    assert scorer.score(network(0.95)).value < 1


def test_labels_of_a_net_that_does_not_classify():
    scorer = build(two_outputs(EYE, EYE), dataset(SAMPLES, [0, 1, 2, 0, 1]))
    assert scorer.baseline.kind == "agreement"
    assert "no classifier" in scorer.notes[0]


# --- running


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


# --- evaluate


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
