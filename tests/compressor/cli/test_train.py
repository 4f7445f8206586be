"""`ortrim train` as a process, on the real device."""

import json

import numpy as np
import onnx
import pytest

from ortrim.compressor.joint import Settings, training
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


@pytest.mark.slow
def test_a_net_is_trained_and_pruned(process, three_layers, some_digits, tmp_path):
    output = tmp_path / "slim.onnx"
    flags = ("--latency", "0.7x", "--epochs", "5", "--no-augment", *FLAGS)
    command = ("train", three_layers, "--data", some_digits, *flags, "-o", output, "--json")
    done = process(*command)
    if done.returncode == 1 and "measures it again" in done.stderr:  # others may use the machine
        done = process(*command, "--resume")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["device"]["spec"] == "cpu:threads=1"
    assert found["target"]["ratio"] == 0.7
    assert found["latency"]["ratio"] <= 0.7
    assert found["score"]["images"] == 50
    model = load(output)
    onnx.checker.check_model(onnx.load(output), full_check=True)
    kept = {group.name: group.size for group in analyze(model).groups}
    assert kept == {name: group["kept"] for name, group in found["plan"].items() if group["kept"]}
    again = process("report", tmp_path / "slim.onnx.run")
    assert again.returncode == 0, again.stderr
    tuned = process(
        *("finetune", output, "--teacher", output, "--data", some_digits, "--minutes", "0.02", "--batch", "32"),
        *("-o", tmp_path / "tuned.onnx", "--json"),
    )
    assert tuned.returncode == 0, tuned.stderr
    shapes = [
        [list(t.dims) for t in onnx.load(tmp_path / name).graph.initializer] for name in ("slim.onnx", "tuned.onnx")
    ]
    assert sorted(shapes[0]) == sorted(shapes[1])


@pytest.fixture(scope="module")
def control(process, some_digits, tmp_path_factory):
    """A net of three layers that was trained as it is, and what was said."""
    folder = tmp_path_factory.mktemp("control")
    (folder / "three_plain_layers.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = process(
            *("train", "three_plain_layers:net", "--data", some_digits, "--no-prune", "--epochs", "2", "--batch", "64"),
            *("-o", folder / "whole.onnx"),
        )
    assert done.returncode == 0, done.stderr
    return folder / "whole.onnx", done


def test_the_control(control):
    output, done = control
    assert "% on 50 held-out images" in done.stdout
    assert "epoch 2/2 (weights): loss" in done.stderr
    assert output.exists()


@pytest.mark.slow
def test_a_trained_net_can_be_compressed(control, process, some_digits, tmp_path):
    whole, slim = control[0], tmp_path / "compressed.onnx"
    # Plans by chance: some are well below the target, which a busy machine may move by some percent.
    flags = ("--latency", "0.9x", "--agent", "random", "--episodes", "8", "--calibration", "100", "--no-history")
    done = process("compress", whole, "--data", some_digits, *flags, "-o", slim, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["slim"]["parameters"] < found["model"]["parameters"]
    onnx.checker.check_model(onnx.load(slim), full_check=True)


def test_a_control_has_no_page(control, ortrim):
    run = control[0].with_name("whole.onnx.run")
    done = ortrim("report", run)
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (2, "")
    assert "report.json is of a net that was not pruned (--no-prune)" in line
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("flag", "changed"),
    [
        ("--no-representation", {"representation": False}),
        ("--no-alignment", {"alignment": False}),
        ("--random-agent", {"agent": "random", "representation": False}),
        ("--soft", {"hard": False}),
        ("--no-prune", {"prune": False}),
        ("--replay-episodes=7", {"replay_episodes": 7}),
        ("--reward-cutoff=2.5", {"reward_cutoff": 2.5}),
    ],
)
def test_flags_are_settings(monkeypatch, ortrim, some_digits, flag, changed):
    """What each of them does is tested with the settings."""
    given = []
    monkeypatch.setattr(training, "train", lambda spec, settings, **others: given.append(settings))
    assert ortrim("train", "ortrim:digits", "--data", some_digits, "-o", "x.onnx", flag).exit_code == 0
    assert given == [Settings(**changed)]


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
