"""`ortrim train` as a process, on the real device."""

import json

import numpy as np
import onnx
import pytest

from ortrim.graph import analyze, load
from ortrim.models import digits

FLAGS = ("--batch", "64", "--episodes", "2", "--bn-batches", "3", "--agent-updates", "6", "--decoder-updates", "4")


NET = """
from torch import nn


def conv(c_in, c_out):
    return [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]


def net():
    made = nn.Sequential(*conv(1, 32), *conv(32, 64), *conv(64, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made.append(nn.Linear(64, 10))
    made.input_shape = (1, 8, 8)
    return made
"""


@pytest.fixture
def three_layers(place):
    """A net whose latency is mostly convolution, in the folder where the command is given."""
    (place / "three_layers.py").write_text(NET)
    return "three_layers:net"


@pytest.fixture(scope="module")
def some_digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    with np.load(digits.TRAIN) as train:
        np.savez(path, images=train["images"][:500], labels=train["labels"][:500])
    return path


def test_a_net_is_trained_and_pruned(process, three_layers, some_digits, tmp_path):
    output = tmp_path / "slim.onnx"
    flags = ("--latency", "0.7x", "--epochs", "5", "--no-augment", *FLAGS)
    done = process("train", three_layers, "--data", some_digits, *flags, "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["device"]["spec"] == "cpu:threads=1"
    assert found["target"]["ratio"] == 0.7
    assert found["latency"]["ratio"] < 0.8  # measured in the end, while others may use the machine
    assert found["score"]["images"] == 50
    assert "epoch 5/5 (weights): loss" in done.stderr
    model = load(output)
    onnx.checker.check_model(onnx.load(output), full_check=True)
    kept = {group.name: group.size for group in analyze(model).groups}
    assert kept == {name: group["kept"] for name, group in found["plan"].items() if group["kept"]}
    again = process("report", tmp_path / "slim.onnx.run")
    assert again.returncode == 0, again.stderr
    # It can be fine-tuned and compressed as any other file.
    assert process("evaluate", output, "--data", some_digits).returncode == 0


def test_the_control(process, three_layers, some_digits, tmp_path):
    output = tmp_path / "whole.onnx"
    done = process(
        *("train", three_layers, "--data", some_digits, "--no-prune", "--epochs", "1", "--batch", "64"),
        *("-o", output),
    )
    assert done.returncode == 0, done.stderr
    assert "% on 50 held-out images" in done.stdout
    assert output.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--latency, or --no-prune"),
        (("--latency", "0.6x", "--epochs", "2"), "--epochs 2"),
        (("--latency", "0.6x", "--rate", "0"), "--rate should be above 0"),
        (("--latency", "2x"), "--latency 2x"),
        (("--latency", "0.6x", "--device", "toaster"), "toaster"),
        (("--latency", "0.6x", "--device", "replay:here"), "cannot be replayed"),
        (("--no-prune", "--resume"), "nothing to --resume"),
    ],
)
def test_flags_that_cannot_work(refused, some_digits, flags, said):
    assert said in refused(2, "train", "ortrim:digits", "--data", some_digits, "-o", "x.onnx", *flags)


def test_images_without_labels(refused, small_images):
    line = refused(2, "train", "ortrim:resnet20", "--data", small_images, "--no-prune", "-o", "x.onnx")
    assert "small.npz" in line


def test_a_net_that_is_not_there(refused, some_digits):
    line = refused(2, "train", "ortrim:digit", "--data", some_digits, "--no-prune", "-o", "x.onnx")
    assert "did you mean digits" in line


def test_logs_that_need_a_package(refused, some_digits):
    pytest.importorskip("torch")
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        flags = ("--no-prune", "--tensorboard", "logs")
        line = refused(2, "train", "ortrim:digits", "--data", some_digits, "-o", "x.onnx", *flags)
        assert "ortrim[tensorboard]" in line
    else:
        pytest.skip("tensorboard is installed")
