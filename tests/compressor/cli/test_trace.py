"""`ortrim trace`: PyTorch to ONNX."""

from __future__ import annotations

import json

import onnx
import pytest

from ortrim.graph import load, macs, parameters


@pytest.fixture
def plain_net(place):
    """A factory in the current folder, as users have them."""
    (place / "mynets.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))\n"
    )


def test_a_factory_to_a_file(ortrim, place, plain_net):
    flags = ("--size", "8", "8", "--batch", "2", "--opset", "18", "--seed", "3", "--json")
    result = ortrim("trace", "mynets:make", "-o", "net.onnx", *flags)
    assert (result.exit_code, result.stderr) == (0, "")
    model = load(place / "net.onnx")
    assert json.loads(result.stdout) == {
        "path": "net.onnx",
        "spec": "mynets:make",
        "parameters": parameters(model),
        "macs": macs(model),
    }
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 8, 8]
    assert model.opset_import[0].version == 18
    assert ortrim("trace", "mynets:make", "-o", "net.onnx").exit_code == 2


def test_the_legacy_exporter_and_a_dynamic_batch(ortrim, place, plain_net):
    result = ortrim("trace", "mynets:make", "-o", "net.onnx", "--size", "8", "8", "--exporter", "legacy")
    assert result.exit_code == 0
    assert result.stdout.startswith("net.onnx: 402 parameters")
    assert onnx.load(place / "net.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param
