"""`ortrim finetune`, and fine-tuning as a stage of `compress`."""

import json

import onnx
import pytest

from ortrim.models import digits


@pytest.fixture(scope="module")
def slim(tmp_path_factory, process):
    path = tmp_path_factory.mktemp("finetune") / "slim.onnx"
    done = process("prune", digits.MODEL, "--ratio", "0.4", "--importance", "l2", "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def test_a_slim_model_is_taught(process, slim, tmp_path):
    output = tmp_path / "tuned.onnx"
    flags = ("--teacher", digits.MODEL, "--data", digits.TRAIN, "--epochs", "2", "--batch", "64")
    done = process("finetune", slim, *flags, "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["score"]["after"] > found["score"]["before"] + 0.05
    assert found["score"]["images"] == 259
    assert found["training_images"] == 1297 - 259
    onnx.checker.check_model(onnx.load(output), full_check=True)
    header = {item.key: item.value for item in onnx.load(output).metadata_props}
    assert "ortrim.plan" in header  # of the pruning
    assert header["ortrim.finetuned"].startswith(str(found["steps"]))
    assert "fine-tuning" in done.stderr
    assert not list(tmp_path.glob("tuned.onnx.*"))


@pytest.mark.slow
def test_two_processes_teach_one_model(torchrun, slim, tmp_path):
    """By torchrun on the CPU: each has half of the images and of the batch, and one of them writes."""
    output = tmp_path / "tuned.onnx"
    flags = ("--teacher", digits.MODEL, "--data", digits.TRAIN, "--epochs", "3", "--batch", "64", "--json")
    done = torchrun("finetune", slim, *flags, "-o", output)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["steps"] == pytest.approx(found["epochs"] * ((1297 - 259) // 2 // 32))
    assert found["score"]["after"] > found["score"]["before"] + 0.03
    onnx.checker.check_model(onnx.load(output), full_check=True)


def test_it_is_told_how_well_it_did(process, slim, tmp_path):
    flags = ("--teacher", digits.MODEL, "--data", digits.TRAIN, "--epochs", "0.2", "--batch", "64")
    done = process("finetune", slim, *flags, "-o", tmp_path / "tuned.onnx")
    assert done.returncode == 0, done.stderr
    assert "% before" in done.stdout
    assert "259 held-out images" in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "either --epochs or --minutes"),
        (("--epochs", "1", "--minutes", "1"), "either --epochs or --minutes"),
        (("--epochs", "0"), "positive number of epochs"),
        (("--epochs", "1", "--labels", "3"), "between 0 and 1"),
    ],
)
def test_flags_that_cannot_work(refused, slim, flags, said):
    line = refused(2, "finetune", slim, "--teacher", digits.MODEL, "--data", digits.TRAIN, "-o", "x.onnx", *flags)
    assert said in line


def test_a_teacher_of_another_kind(refused, slim, small_net):
    line = refused(2, "finetune", slim, "--teacher", small_net, "--data", digits.TRAIN, "--epochs", "1", "-o", "x.onnx")
    assert "x.onnx" not in line


def test_a_teacher_whose_outputs_have_another_shape(refused, slim, tmp_path):
    onnx.save(images_in_images_out(), tmp_path / "image.onnx")
    line = refused(
        *(2, "finetune", slim, "--teacher", tmp_path / "image.onnx", "--data", digits.TRAIN),
        *("--epochs", "1", "-o", "x.onnx"),
    )
    assert "differ (output" in line


def images_in_images_out():
    """A net whose input and output are named as those of digits, and which gives its input back."""
    model = onnx.load(digits.MODEL)
    value, name = model.graph.input[0], model.graph.output[0].name
    del model.graph.node[:]
    del model.graph.initializer[:]
    model.graph.node.add(op_type="Identity", input=[value.name], output=[name])
    model.graph.output[0].CopyFrom(value)
    model.graph.output[0].name = name
    return model


def test_compress_teaches_its_winner(process, small_net, small_images, tmp_path):
    output = tmp_path / "slim.onnx"
    flags = ("--latency", "0.8x", "--episodes", "3", "--calibration", "48", "--agent", "knapsack")
    done = process("compress", small_net, "--data", small_images, *flags, "--finetune", "0.5", "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    stage = next(stage for stage in found["stages"] if stage["name"].startswith("fine-tuning"))
    assert stage["score"] is not None
    assert stage["seconds"] > 0
    assert found["latency"]["ratio"] <= 0.8
    assert not (tmp_path / "slim.onnx.run" / "checkpoint.pt").exists()


def test_epochs_or_minutes_of_compress(refused, small_net, small_images):
    flags = ("--latency", "0.6x", "--finetune", "1", "--finetune-minutes", "1", "-o", "x.onnx")
    assert "either --finetune" in refused(2, "compress", small_net, "--data", small_images, *flags)
