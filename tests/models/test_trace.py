import numpy as np
import onnx
import pytest
import torch

from ortrim.errors import InputError, OutputError
from ortrim.models.build import build
from ortrim.models.trace import trace


@pytest.mark.parametrize("exporter", ["default", "legacy"])
def test_an_own_net_computes_the_same_at_any_batch(tmp_path, run_onnx, exporter, capfd):
    path = trace("ortrim:resnet20", tmp_path / "net.onnx", seed=4, exporter=exporter)
    assert capfd.readouterr().out == "", "standard output is for results"
    onnx.checker.check_model(str(path), full_check=True)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"], "one file, and no leftovers"

    graph = onnx.load(path).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["input", "output"]
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == ["batch", 3, 32, 32]

    net = build("ortrim:resnet20", seed=4).module
    for count in (1, 5):
        batch = torch.rand(count, 3, 32, 32)
        with torch.inference_mode():
            expected = net(batch).numpy()
        np.testing.assert_allclose(run_onnx(path, batch.numpy())[0], expected, rtol=1e-3, atol=1e-4)


def test_layers_are_named_after_modules_and_the_source_stays_out(tmp_path):
    path = trace("ortrim:digits", tmp_path / "net.onnx")
    names = [node.name for node in onnx.load(path).graph.node]
    assert {"conv", "blocks.0.conv1", "blocks.3.shortcut.0", "fc"} <= set(names)
    assert len(set(names)) == len(names)
    assert b".py" not in path.read_bytes()


def test_given_weights_are_the_ones_exported(tmp_path, run_onnx):
    net = build("ortrim:digits", seed=8).module
    torch.save(net.state_dict(), tmp_path / "net.pth")
    path = trace("ortrim:digits", tmp_path / "net.onnx", weights=tmp_path / "net.pth")
    batch = torch.rand(2, 1, 8, 8)
    with torch.inference_mode():
        np.testing.assert_allclose(run_onnx(path, batch.numpy())[0], net(batch), rtol=1e-3, atol=1e-4)


def test_a_torchvision_net_at_another_size(tmp_path, run_onnx):
    path = trace("torchvision:squeezenet1_1", tmp_path / "net.onnx", size=(64, 96))
    assert run_onnx(path, np.zeros((3, 3, 64, 96), np.float32))[0].shape == (3, 1000)


def test_an_existing_output_is_refused_before_anything_else(tmp_path):
    path = tmp_path / "net.onnx"
    path.touch()
    with pytest.raises(OutputError, match="exists already"):
        trace("ortrim:no_such_net", path)
    with pytest.raises(InputError, match="no net"):
        trace("ortrim:no_such_net", path, force=True)
    assert path.read_bytes() == b""
