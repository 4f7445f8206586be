import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from ortrim.models.cifar_resnet import CifarResNet
from ortrim.models.digits import MODEL, TEST, TRAIN
from ortrim.models.digits.train import accuracy, distort, fit, main, read


@pytest.fixture(scope="module")
def splits():
    return {path: dict(np.load(path)) for path in (TRAIN, TEST)}


def test_the_splits_are_in_the_data_format_and_do_not_overlap(splits):
    for path, count in ((TRAIN, 1297), (TEST, 500)):
        images, labels = splits[path]["images"], splits[path]["labels"]
        assert images.shape == (count, 8, 8, 1)
        assert images.dtype == np.uint8
        assert images.max() == 255
        assert labels.shape == (count,)
        assert labels.dtype == np.int64
        assert set(labels) == set(range(10))
    train, test = ({image.tobytes() for image in splits[path]["images"]} for path in (TRAIN, TEST))
    assert not train & test


def test_the_splits_are_what_the_script_makes(splits):
    load_digits = pytest.importorskip("sklearn.datasets", reason="scikit-learn made the data").load_digits
    from ortrim.models.digits.data import split

    pixels, labels = load_digits(return_X_y=True)
    for path, arrays in split(pixels.reshape(-1, 8, 8), labels).items():
        assert arrays.keys() == splits[path].keys()
        assert all(np.array_equal(arrays[key], splits[path][key]) for key in arrays)


def test_the_model_is_one_clean_file(splits):
    onnx.checker.check_model(str(MODEL), full_check=True)
    model = onnx.load(MODEL, load_external_data=False)
    assert not any(tensor.data_location for tensor in model.graph.initializer), "external data"
    assert MODEL.stat().st_size < 2_000_000
    operators = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in operators, "the exporter folds it"
    assert operators.count("Conv") == 17


def test_the_model_scores_on_held_out_images_at_any_batch(splits, run_onnx):
    images = splits[TEST]["images"].transpose(0, 3, 1, 2).astype(np.float32) / 255
    labels = splits[TEST]["labels"]
    (logits,) = run_onnx(MODEL, images)
    assert (logits.argmax(1) == labels).mean() >= 0.97
    np.testing.assert_allclose(run_onnx(MODEL, images[:1])[0], logits[:1], rtol=1e-4, atol=1e-4)


def test_training_learns_and_the_seed_decides():
    images, labels = read(TRAIN)

    def trained(epochs):
        torch.manual_seed(0)
        net = CifarResNet((1, 1), (8, 16), in_channels=1)
        fit(net, images, labels, epochs=epochs)
        return net

    net = trained(6)
    assert not net.training
    assert accuracy(net, *read(TEST)) > 0.7
    pair = (trained(1).parameters() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


def test_distortion_moves_little_and_keeps_the_shape():
    images, _ = read(TRAIN)
    torch.manual_seed(0)
    distorted = distort(images[:64])
    assert distorted.shape == (64, 1, 8, 8)
    assert 0.01 < (distorted - images[:64]).abs().mean() < 0.15


def test_the_script_writes_the_model_and_never_over_one(tmp_path):
    path = tmp_path / "digits.onnx"
    result = CliRunner().invoke(main, ["-o", str(path), "--epochs", "1"])
    assert result.exit_code == 0, result.output
    assert "of the held-out images right" in result.stdout
    onnx.checker.check_model(str(path))
    result = CliRunner().invoke(main, ["-o", str(path), "--epochs", "1"])
    assert result.exit_code == 2
    assert "exists already" in result.stderr
