"""`ortrim prune`: a slim file and its figures."""

from __future__ import annotations

import json

import onnx
import pytest

from ortrim.graph import load, macs, parameters
from ortrim.models import digits


def test_a_file_and_its_figures(ortrim, place):
    result = ortrim("prune", digits.MODEL, "--ratio", "0.5", "-o", "sub/slim.onnx", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    seen = json.loads(result.stdout)
    slim = onnx.load(place / "sub" / "slim.onnx")
    onnx.checker.check_model(slim, full_check=True)
    assert seen["slim"]["parameters"] == parameters(slim) < seen["model"]["parameters"]
    assert seen["slim"]["macs"] == macs(load(slim)) < seen["model"]["macs"]
    assert seen["slim"]["bytes"] == (place / "sub" / "slim.onnx").stat().st_size
    assert (seen["importance"], seen["refitted"]) == ("l2", False)
    assert [path.name for path in place.rglob("*")] == ["sub", "slim.onnx"]


def test_force_writes_over(ortrim, place):
    (place / "slim.onnx").write_bytes(b"old")
    assert ortrim("prune", digits.MODEL, "--ratio", "0.5", "-o", "slim.onnx").exit_code == 2
    assert (place / "slim.onnx").read_bytes() == b"old"
    result = ortrim("prune", digits.MODEL, "--ratio", "0.5", "-o", "slim.onnx", "--force")
    assert result.exit_code == 0
    assert onnx.load(place / "slim.onnx").graph.node


def test_the_table(ortrim, small_net, small_images):
    result = ortrim("prune", small_net, "--ratio", "0.5", "--data", small_images, "-o", "slim.onnx")
    for part in ("original", "slim", "parameters", "MACs", "file", "3 groups pruned by refit", "refitted", "slim.onnx"):
        assert part in result.stdout


def test_flags_reach_the_work(ortrim, place):
    def plan(*flags):
        result = ortrim("prune", digits.MODEL, "--ratio", "0.3", "-o", "slim.onnx", "--force", "--json", *flags)
        return json.loads(result.stdout)["plan"]

    assert plan()["conv"] == 23
    assert plan("--round", "8")["conv"] == 24
    assert "conv" not in plan("--keep", "conv")
    assert set(plan("--keep", "blocks.[0-2].*", "--keep", "fc")) == {
        "blocks.3.conv1",
        "blocks.3.shortcut.0",
        "blocks.4.conv1",
        "blocks.5.conv1",
        "blocks.6.conv1",
    }


@pytest.mark.parametrize("mean", [["0.5"], ["0.1", "0.2", "0.3"]])
def test_preprocessing_flags(ortrim, small_net, small_images, mean):
    flags = ("--data", small_images, "--mean", *mean, "--std", *(["0.5"] * len(mean)), "-o", "slim.onnx")
    assert ortrim("prune", small_net, "--ratio", "0.5", *flags).exit_code == 0
