"""Bad input: one line, the right exit status, no traceback, nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from ortrim.models import digits

MODEL_COMMANDS = {
    "inspect": ("inspect",),
    "bench": ("bench",),
    "prune": ("prune", "--ratio", "0.3", "-o", "slim.onnx"),
    "evaluate": ("evaluate", "--data", digits.TEST),
    "compress": ("compress", "--data", digits.TRAIN, "--latency", "0.6x", "-o", "slim.onnx"),
}


def broken_file(kind, folder):
    path = folder / f"{kind}.onnx"
    whole = digits.MODEL.read_bytes()
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "random":
            path.write_bytes(np.random.default_rng(0).bytes(10_000))
        case "image":
            Image.new("RGB", (8, 8)).save(path, format="png")
        case "archive":
            path.write_bytes(digits.TEST.read_bytes())
        case "folder":
            path.mkdir()
            (path / "file").write_bytes(b"")
        case "text":
            path.write_text("a model\n")
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "random", "image", "archive", "folder", "text"])
@pytest.mark.parametrize("command", MODEL_COMMANDS)
def test_files_that_are_no_model(refused, tmp_path, command, kind):
    path = broken_file(kind, tmp_path)
    name, *flags = MODEL_COMMANDS[command]
    assert str(path) in refused(2, name, path, *flags)


def test_an_old_operator_set(refused, tmp_path):
    model = onnx.load(digits.MODEL)
    model.opset_import[0].version = 6
    path = tmp_path / "old.onnx"
    onnx.save(model, path)
    line = refused(2, "inspect", path)
    assert "operator set 6" in line
    assert str(path) in line


def test_an_operator_set_of_the_future(refused, tmp_path):
    model = onnx.load(digits.MODEL)
    model.opset_import[0].version = 999
    path = tmp_path / "new.onnx"
    onnx.save(model, path)
    for command in ("bench", "prune", "evaluate", "compress"):
        name, *flags = MODEL_COMMANDS[command]
        line = refused(2, name, path, *flags).lower()
        assert "opset" in line or "operator set 999" in line


def custom(folder):
    """A prunable net with an operator that nobody knows."""
    model = onnx.load(digits.MODEL)
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    model.graph.node.append(helper.make_node("Sharpen", ["before"], [output], "sharpen", domain="com.acme"))
    path = folder / "custom.onnx"
    onnx.save(model, path)
    return path


def test_custom_operators(refused, ortrim, tmp_path):
    path = custom(tmp_path)
    seen = ortrim("inspect", path)  # needs no runtime, and shows what the operator freezes
    assert seen.exit_code == 0
    assert "Sharpen" in seen.stdout
    for command in ("bench", "prune", "evaluate", "compress"):
        name, *flags = MODEL_COMMANDS[command]
        assert "Sharpen" in refused(2, name, path, *flags)


@pytest.mark.parametrize("command", ["prune", "compress"])
def test_nothing_to_prune(refused, frozen_net, few_digits, command):
    flags = {"prune": ("--ratio", "0.5"), "compress": ("--data", few_digits, "--latency", "0.6x")}[command]
    assert "nothing to prune" in refused(1, command, frozen_net, *flags, "-o", "slim.onnx")


def test_keeping_everything_leaves_nothing_to_prune(refused):
    line = refused(1, "prune", digits.MODEL, "--ratio", "0.5", "--keep", "*", "-o", "slim.onnx")
    assert "nothing to prune: --keep" in line


def test_a_pattern_that_keeps_nothing(refused):
    line = refused(2, "prune", digits.MODEL, "--ratio", "0.5", "--keep", "layer1*", "-o", "slim.onnx")
    assert "--keep 'layer1*'" in line


def archive(kind, folder):
    path = folder / f"{kind}.npz"
    images = np.zeros((10, 8, 8, 1), np.uint8)
    labels = np.arange(10)
    match kind:
        case "keys":
            np.savez(path, pixels=images)
        case "shape":
            np.savez(path, images=np.zeros((10, 9, 9, 1), np.uint8))
        case "channels":
            np.savez(path, images=np.zeros((10, 8, 8, 3), np.uint8))
        case "rank":
            np.savez(path, images=images[0, 0])
        case "type":
            np.savez(path, images=np.array(["a"] * 10))
        case "pickle":
            np.savez(path, images=np.array([{}] * 10, dtype=object))
        case "nan":
            np.savez(path, images=np.full((10, 1, 8, 8), np.nan, np.float32))
        case "none":
            np.savez(path, images=images[:0])
        case "beyond":
            np.savez(path, images=images, labels=labels + 1)
        case "negative":
            np.savez(path, images=images, labels=labels - 1)
        case "fewer labels":
            np.savez(path, images=images, labels=labels[:5])
        case "fractions":
            np.savez(path, images=images, labels=labels / 3)
        case "no archive":
            path.write_bytes(b"PK\x03\x04 not quite")
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
            (path / "notes.txt").write_text("no image")
    return path


BAD_DATA = [
    "missing", "keys", "shape", "channels", "rank", "type", "pickle", "nan", "none", "beyond", "negative", "fractions",
    "fewer labels", "no archive", "empty", "folder",
]  # fmt: skip


@pytest.mark.parametrize("kind", BAD_DATA)
@pytest.mark.parametrize("command", ["evaluate", "compress"])
def test_data_that_do_not_fit(refused, tmp_path, command, kind):
    path = archive(kind, tmp_path)
    flags = ("--latency", "0.6x", "-o", "slim.onnx") if command == "compress" else ()
    assert str(path) in refused(2, command, digits.MODEL, "--data", path, *flags)


def test_data_for_pruning_are_looked_at_too(refused, tmp_path):
    path = archive("shape", tmp_path)
    line = refused(2, "prune", digits.MODEL, "--ratio", "0.5", "--data", path, "-o", "slim.onnx")
    assert str(path) in line


def test_one_image_cannot_be_split(refused, tmp_path):
    path = tmp_path / "one.npz"
    np.savez(path, images=np.zeros((1, 8, 8, 1), np.uint8))
    line = refused(2, "compress", digits.MODEL, "--data", path, "--latency", "0.6x", "-o", "slim.onnx")
    assert "1 image" in line


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (("--latency", "0"), "--latency"),
        (("--latency", "0x"), "--latency"),
        (("--latency", "-1ms"), "--latency"),
        (("--latency", "1x"), "no faster"),
        (("--latency", "1.5x"), "no faster"),
        (("--latency", "fast"), "--latency"),
        (("--latency", "nanms"), "--latency"),
        (("--latency", "60%"), "--latency"),
        (("--agent", "nobody"), "greedy, knapsack"),
        (("--episodes", "0"), "--episodes"),
        (("--episodes", "many"), "--episodes"),
        (("--min-score", "90"), "between 0 and 1"),
        (("--min-score", "-0.1"), "between 0 and 1"),
        (("--calibration", "0"), "--calibration"),
        (("--seed", "-1"), "--seed"),
        (("--device", "abacus"), "abacus"),
        (("--device", "cpu:threads=0"), "threads=0"),
        (("--device", ""), "device"),
        (("--device", "replay:nowhere"), "nowhere"),
        (("--keep", "layer1*"), "layer1*"),
        (("--size", "16", "16"), "--size 16 16"),
        (("--size", "16"), "--size"),
        (("--mean", "0.5", "0.5", "0.5"), "--mean"),
        (("--mean", "x"), "--mean"),
        (("--std", "0"), "--std"),
        (("--mean", "0.5", "--scale", "2"), "exclude each other"),
        (("--mean",), "--mean"),
        (("--resume",), "--resume"),
        (("--frobnicate",), "--frobnicate"),
    ],
)
def test_flags_of_compress(refused, few_digits, flags, part):
    line = refused(2, "compress", digits.MODEL, "--data", few_digits, "--latency", "0.6x", "-o", "slim.onnx", *flags)
    assert part in line


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("compress", digits.MODEL, "--data", digits.TRAIN, "--latency", "0.6x"), "--output"),
        (("compress", digits.MODEL, "--data", digits.TRAIN, "-o", "slim.onnx"), "--latency"),
        (("compress", digits.MODEL, "--latency", "0.6x", "-o", "slim.onnx"), "--data"),
        (("inspect",), "MODEL"),
        (("inspect", digits.MODEL, digits.MODEL), "unexpected"),
        (("inspect", digits.MODEL, "--device", "abacus"), "abacus"),
        (("bench",), "A.onnx"),
        (("bench", digits.MODEL, "--device", "abacus"), "abacus"),
        (("bench", digits.MODEL, "--seconds", "0"), "--seconds"),
        (("bench", digits.MODEL, "--shape", "3x8x8"), "--shape"),
        (("bench", digits.MODEL, "--shape", "input=0x1x8x8"), "--shape"),
        (("bench", digits.MODEL, "--shape", "picture=1x1x8x8"), "'picture'"),
        (("bench", digits.MODEL, "--shape", "input=1x3x8x8"), "input"),
        (("evaluate", digits.MODEL), "--data"),
        (("evaluate", digits.MODEL, "--data", digits.TEST, "--device", "abacus"), "abacus"),
        (("evaluate", digits.MODEL, "--data", digits.TEST, "--reference", "gone.onnx"), "gone.onnx"),
        (("evaluate", digits.MODEL, "--data", digits.TEST, "--label-offset", "5"), "beyond"),
        (("prune", digits.MODEL, "-o", "slim.onnx"), "--ratio"),
        (("prune", digits.MODEL, "--ratio", "1", "-o", "slim.onnx"), "--ratio"),
        (("prune", digits.MODEL, "--ratio", "0", "-o", "slim.onnx"), "--ratio"),
        (("prune", digits.MODEL, "--ratio", "nan", "-o", "slim.onnx"), "--ratio"),
        (("prune", digits.MODEL, "--ratio", "30%", "-o", "slim.onnx"), "--ratio"),
        (("prune", digits.MODEL, "--ratio", "0.3", "--round", "0", "-o", "slim.onnx"), "--round"),
        (("prune", digits.MODEL, "--ratio", "0.3", "--importance", "size", "-o", "slim.onnx"), "'size'"),
        (("prune", digits.MODEL, "--ratio", "0.3", "--importance", "refit", "-o", "slim.onnx"), "--data"),
        (("report", "nowhere"), "nowhere"),
        (("trace", "torchvision", "-o", "net.onnx"), "torchvision"),
        (("trace", "ortrim:nothing", "-o", "net.onnx"), "'nothing'"),
        (("trace", "ortrim:digits", "-o", "net.onnx", "--batch", "some"), "--batch"),
        (("trace", "ortrim:digits", "-o", "net.onnx", "--batch", "0"), "batch"),
        (("trace", "ortrim:digits", "-o", "net.onnx", "--exporter", "mine"), "--exporter"),
        (("trace", "ortrim:digits", "-o", "net.onnx", "--weights", "gone.pt"), "gone.pt"),
        (("guess", digits.MODEL), "guess"),
        (("--frobnicate",), "--frobnicate"),
    ],
)
def test_usage(refused, arguments, part):
    assert part in refused(2, *arguments)


def outputs():
    yield "prune", ("prune", digits.MODEL, "--ratio", "0.3", "-o")
    yield "trace", ("trace", "ortrim:digits", "-o")
    yield "compress", ("compress", digits.MODEL, "--data", digits.TRAIN, "--latency", "0.6x", "-o")


@pytest.mark.parametrize("arguments", [pytest.param(arguments, id=name) for name, arguments in outputs()])
def test_outputs_that_cannot_be_written(refused, place, arguments):
    taken = place / "taken.onnx"
    taken.write_bytes(b"somebody's")
    (place / "folder").mkdir()
    (place / "folder" / "file").write_bytes(b"")
    line = refused(2, *arguments, taken)
    assert str(taken) in line
    assert "--force" in line
    assert "folder" in refused(2, *arguments, place / "folder")
    assert str(taken) in refused(2, *arguments, taken / "slim.onnx")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("arguments", [pytest.param(arguments, id=name) for name, arguments in outputs()])
def test_folders_that_cannot_be_written(refused, place, arguments):
    closed = place / "closed"
    closed.mkdir()
    (closed / "file").write_bytes(b"")
    closed.chmod(0o500)
    try:
        assert str(closed) in refused(2, *arguments, closed / "slim.onnx")
    finally:
        closed.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that refuses even root")
@pytest.mark.parametrize("command", ["prune", "compress"])
def test_folders_that_refuse_everybody(refused, command):
    flags = {"prune": ("--ratio", "0.5"), "compress": ("--data", digits.TRAIN, "--latency", "0.6x")}[command]
    line = refused(2, command, digits.MODEL, *flags, "-o", "/proc/slim.onnx")
    assert "/proc/slim.onnx" in line
    assert "cannot be written" in line


@pytest.mark.parametrize("command", ["prune", "compress"])
def test_the_output_is_not_the_input(refused, place, command):
    model = place / "model.onnx"
    model.write_bytes(digits.MODEL.read_bytes())
    flags = {"prune": ("--ratio", "0.5"), "compress": ("--data", digits.TRAIN, "--latency", "0.6x")}[command]
    assert "input" in refused(2, command, model, *flags, "-o", model, "--force")


def test_a_run_directory_that_is_taken(refused, place, few_digits):
    run = place / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("mine")
    flags = ("--data", few_digits, "--latency", "0.6x", "-o", "slim.onnx", "--run-dir", run)
    assert str(run) in refused(2, "compress", digits.MODEL, *flags)
    assert str(run) in refused(2, "compress", digits.MODEL, *flags, "--resume")


def test_a_remote_device_that_is_not_there(refused):
    device = ("--device", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in refused(1, "bench", digits.MODEL, *device)
    flags = ("--data", digits.TRAIN, "--latency", "0.6x", "-o", "slim.onnx")
    assert "127.0.0.1:9" in refused(1, "compress", digits.MODEL, *flags, *device)


def test_a_target_in_milliseconds_that_is_met_already(refused):
    flags = ("--data", digits.TRAIN, "--latency", "1000ms", "-o", "slim.onnx")
    assert "met already" in refused(2, "compress", digits.MODEL, *flags)
