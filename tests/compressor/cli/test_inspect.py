"""`ortrim inspect`: groups, what they are worth, and what is frozen."""

from __future__ import annotations

import json

import onnx
import pytest

from ortrim.graph import analyze, load, macs, parameters, slim
from ortrim.models import digits


@pytest.fixture
def seen(ortrim):
    result = ortrim("inspect", digits.MODEL, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_groups_are_those_of_the_analysis(seen):
    groups = analyze(digits.MODEL).groups
    assert [(g["name"], g["size"], g["exact"], g["removable"]) for g in seen["groups"]] == [
        (g.name, g.size, g.exact, g.removable) for g in groups
    ]
    assert seen["frozen"] == [{"layer": "fc", "reason": "makes the graph output 'output'"}]


def test_what_a_group_is_worth_is_what_goes_with_it(seen):
    model = load(digits.MODEL)
    whole = parameters(model), macs(model)
    assert (seen["model"]["parameters"], seen["model"]["macs"]) == whole
    for group in seen["groups"]:
        # Half the units: all of them cannot always go. A layer inside a residual stream loses rows and columns.
        half = slim(model, {group["name"]: range(group["size"] // 2)})
        gone = whole[0] - parameters(half), whole[1] - macs(half)
        for lost, worth in zip(gone, (group["parameters"], group["macs"]), strict=True):
            assert worth / 2 <= lost <= 0.75 * worth
        if group["name"].endswith("conv1"):
            assert gone == (group["parameters"] // 2, group["macs"] // 2)
        assert group["macs_share"] == pytest.approx(group["macs"] / whole[1])
        assert group["latency_share"] is None


def test_half_of_everything(seen):
    model = load(digits.MODEL)
    half = slim(model, {group.name: range(group.size // 2) for group in analyze(model).groups})
    assert seen["half"] == {"parameters": parameters(half), "macs": macs(half)}


def test_time_on_a_device(ortrim):
    result = ortrim("inspect", digits.MODEL, "--device", "cpu:threads=1", "--json")
    seen = json.loads(result.stdout)
    layers = {layer["layer"]: layer for layer in seen["layers"]}
    assert sum(part["share"] for part in seen["layers"] + seen["reorders"]) == pytest.approx(1)
    # Convolutions under their own names, though onnxruntime fuses and renames them.
    assert {node.name for node in load(digits.MODEL).graph.node if node.op_type == "Conv"} <= set(layers)
    assert layers["blocks.0.conv1"]["share"] > layers["conv"]["share"]
    assert all(0 < group["latency_share"] < 1 for group in seen["groups"])


def test_the_table(ortrim):
    result = ortrim("inspect", digits.MODEL)
    assert result.exit_code == 0
    for part in (
        "blocks.6.shortcut.0",
        "52.4 %",
        "frozen layer",
        "makes the graph output",
        "407 k parameters",
        "10 groups",
    ):
        assert part in result.stdout


def test_the_table_with_time(ortrim):
    result = ortrim("inspect", digits.MODEL, "--device", "cpu:threads=1")
    assert "CPUExecutionProvider" in result.stdout
    assert "others" in result.stdout


def test_a_model_without_groups_is_no_error(ortrim, frozen_net):
    result = ortrim("inspect", frozen_net)
    assert result.exit_code == 0
    assert "nothing to prune" in result.stdout
    assert "makes the graph output 'y'" in result.stdout
    assert json.loads(ortrim("inspect", frozen_net, "--json").stdout)["groups"] == []


def test_names_with_brackets_are_shown_as_they_are(ortrim, small_net, place):
    model = onnx.load(small_net)
    model.graph.node[0].name = "[red]a:smile:[/red]"
    onnx.save(model, "brackets.onnx")
    assert "[red]a:smile:[/red]" in ortrim("inspect", "brackets.onnx").stdout
