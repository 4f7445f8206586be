"""`ortrim bench`: latency with its interval, ratios, and what a reader should know of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ortrim.compressor.cli.bench import _doubts
from ortrim.models import digits
from ortrim.runtime import Latency, Ratio


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
