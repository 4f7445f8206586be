"""`ortrim bench`: latency with its interval, ratios, and what a reader should know of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ortrim.compressor.cli.bench import _doubts
from ortrim.compressor.cli.blocks import histogram, spark
from ortrim.compressor.cli.explained import _kind, _note
from ortrim.models import digits
from ortrim.runtime import Latency, LayerTime, Ratio


def test_one_model(ortrim):
    result = ortrim("bench", digits.MODEL, "--seconds", "0.3", "--json")
    assert result.exit_code == 0
    seen = json.loads(result.stdout)
    (model,) = seen["models"]
    assert model["path"] == str(digits.MODEL)
    assert 0 < model["low_ms"] <= model["median_ms"] <= model["high_ms"]
    assert model["median_ms"] <= model["p90_ms"]
    assert model["clock"] in ("thread-cpu", "wall")
    assert set(model["conditions"]["providers"]) == {"CPUExecutionProvider"}
    assert model["ratio"] is None
    assert seen["device"]["spec"] == "cpu:threads=1"


def test_several_models_are_compared_with_the_first(ortrim, small_net):
    result = ortrim("bench", digits.MODEL, small_net, digits.MODEL, "--seconds", "0.5", "--json")
    assert result.exit_code == 0
    first, other, same = json.loads(result.stdout)["models"]
    assert first["ratio"] is None
    assert other["ratio"]["low"] <= other["ratio"]["value"] <= other["ratio"]["high"]
    assert same["ratio"]["value"] == pytest.approx(1, abs=0.2)
    assert "baseline" not in same["ratio"]


def test_the_table(ortrim, small_net):
    alone = ortrim("bench", digits.MODEL, "--seconds", "0.2")
    assert alone.exit_code == 0
    for part in ("median ms", "interval", "p90 ms", "on CPUExecutionProvider", "cpu:threads=1", "onnxruntime"):
        assert part in alone.stdout
    assert "ratio" not in alone.stdout
    assert "ratio" in ortrim("bench", digits.MODEL, small_net, "--seconds", "0.2").stdout


def test_shapes_for_dynamic_axes(ortrim):
    def median(*flags):
        result = ortrim("bench", digits.MODEL, "--seconds", "0.2", "--json", *flags)
        return json.loads(result.stdout)["models"][0]["median_ms"]

    assert median("--shape", "input=8x1x8x8") > 3 * median()


def figures(**changes):
    conditions = {"device": {"provider": "CUDAExecutionProvider"}, "providers": {"CUDAExecutionProvider": 9}}
    return replace(Latency(1.0, 1.2, 0.9, 1.1, 0.95, (1.0,), "wall", 1.0, conditions), **changes)


def test_doubts():
    good = figures()
    assert _doubts(["a"], [good], []) == []
    steady = Ratio(0.5, 0.4, 0.6, 0.95, good, good, drift=0.03, drifted=False)
    assert _doubts(["a", "b"], [good, good], [steady]) == []
    drifted = replace(steady, drift=0.21, drifted=True)
    assert "a became 21 % slower" in _doubts(["a", "b"], [good, good], [drifted])[0]
    assert "a became 12 % quicker" in _doubts(["a", "b"], [good, good], [replace(drifted, drift=-0.12)])[0]
    assert "cover 88 % only" in _doubts(["a"], [figures(confidence=0.88)], [])[0]
    fallen = figures(
        conditions={**good.conditions, "providers": {"CUDAExecutionProvider": 6, "CPUExecutionProvider": 3}}
    )
    assert _doubts(["a", "b"], [good, fallen], [steady]) == ["b: 3 nodes did not run on CUDAExecutionProvider"]


def test_samples_are_a_small_histogram(ortrim):
    result = ortrim("bench", digits.MODEL, "--seconds", "0.2")
    assert "samples, ms" in result.stdout
    assert "█" in result.stdout


def test_blocks():
    assert spark([0, 1, 4, 8]) == " ▁▄█"
    assert spark([0, 0]) == "  "
    assert spark([]) == ""
    assert spark([1000, 1]) == "█▁"
    low, picture, high = histogram([1.0] * 500 + [2.0] * 495 + [9.0] * 5)  # the slowest samples are left out
    assert (low, high, picture) == (1.0, 2.0, "█" + " " * 22 + "█")
    assert histogram([3.0] * 4) == (3.0, "█" + " " * 23, 3.0)


def test_batch_sets_the_first_axis(ortrim):
    def median(*flags):
        result = ortrim("bench", digits.MODEL, "--seconds", "0.2", "--json", *flags)
        return json.loads(result.stdout)["models"][0]["median_ms"]

    assert median("--batch", "8") > 3 * median("--batch", "1")


def test_a_fixed_batch_is_refused(refused, tmp_path, save):
    text = "net (float[1, 1, 8, 8] image) => (float[1, 4, 8, 8] y) { y = Conv<pads=[1, 1, 1, 1]>(image, w) }"
    model = save("fixed.onnx", text, {"w": (4, 1, 3, 3)})
    assert "no input with a dynamic first axis" in refused(2, "bench", model, "--batch", "2")


def test_inputs_of_a_file(ortrim, refused, tmp_path):
    path, empty, text = tmp_path / "in.npz", tmp_path / "empty.npz", tmp_path / "text.npz"
    np.savez(path, input=np.ones((4, 1, 8, 8), np.float32))
    np.savez(empty, other=np.ones(3))
    text.write_text("no arrays")
    result = ortrim("bench", digits.MODEL, "--inputs", path, "--seconds", "0.2", "--json")
    assert result.exit_code == 0
    assert "needs input 'input'" in refused(2, "bench", digits.MODEL, "--inputs", empty, "--seconds", "0.2")
    assert "not a .npz" in refused(2, "bench", digits.MODEL, "--inputs", text)
    assert "absent.npz: No such file" in refused(2, "bench", digits.MODEL, "--inputs", tmp_path / "absent.npz")
    assert "leave --shape and --batch away" in refused(2, "bench", digits.MODEL, "--inputs", path, "--batch", "2")


def test_explain_as_json(ortrim, small_net):
    result = ortrim("bench", digits.MODEL, small_net, "--seconds", "0.2", "--explain", "--json")
    first, second = (model["explanation"] for model in json.loads(result.stdout)["models"])
    assert {"conv", "blocks.0.conv1"} <= {layer["layer"] for layer in first["layers"]}
    assert second["convolutions"] == {"blocked": 3, "plain": 0} or second["convolutions"]["blocked"] == 0
    assert second["providers"] == {"CPUExecutionProvider": len(second["layers"])}
    assert 0 <= second["reorder_share"] < 1


def test_explain_says_why_a_convolution_is_slow(ortrim, save):
    text = """net (float[1, 3, 16, 16] image) => (float[1, 8, 16, 16] y) {
        a = Conv<pads=[1, 1, 1, 1]>(image, wa)
        y = Conv<pads=[1, 1, 1, 1]>(a, wb)
    }"""
    model = save("odd.onnx", text, {"wa": (18, 3, 3, 3), "wb": (8, 18, 3, 3)})
    shown = ortrim("bench", model, "--seconds", "0.2", "--explain").stdout
    assert "reads 18 channels, not a multiple of 4" in shown
    assert "layers ran on CPUExecutionProvider: 2" in shown
    assert "convolutions: " in shown


def test_nodes_on_another_provider_are_marked():
    there = LayerTime("a", "Conv", 1.0, 0.5, "CUDAExecutionProvider", "Conv")
    fallen = LayerTime("b", "Conv", 1.0, 0.4, "CPUExecutionProvider", "com.microsoft.nchwc.Conv", layout="blocked")
    assert _note(there, "CUDAExecutionProvider") == ""
    assert _note(fallen, "CUDAExecutionProvider") == "ran on CPUExecutionProvider"
    assert (_kind(there), _kind(fallen)) == ("", "blocked")
