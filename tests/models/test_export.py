import numpy as np
import onnx
import pytest
import torch
from torch import nn

from ortrim.errors import InputError, OutputError, VerificationError
from ortrim.graph import analyze
from ortrim.models.export import export

SHAPE = (3, 8, 8)


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


class Two(nn.Module):
    """Several outputs, by name or by place."""

    def __init__(self, names: bool):
        super().__init__()
        self.conv, self.names = nn.Conv2d(3, 4, 3), names

    def forward(self, x):
        y = self.conv(x)
        return {"map": y, "sum": y.sum((1, 2, 3))} if self.names else (y, y.sum((1, 2, 3)))


class Segmenter(nn.Module):
    """A dict of one output, as torchvision's segmentation nets return it; here a mask."""

    def forward(self, x):
        return {"out": x.argmax(1) > 0}


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class Text(nn.Module):
    def forward(self, x):
        return str(x)


class OnlyEight(nn.Module):
    def forward(self, x):
        raise ValueError("eight images\nor none")


def test_the_module_is_left_as_it_was(tmp_path):
    net = small_net().train()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export(net, tmp_path / "net.onnx", SHAPE)
    assert net.training
    assert [part.training for part in net] == [True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("exporter", ["default", "legacy"])
@pytest.mark.parametrize(("names", "outputs"), [(True, ["map", "sum"]), (False, ["output_0", "output_1"])])
def test_several_outputs_keep_their_names_and_values(tmp_path, run_onnx, exporter, names, outputs):
    net = Two(names).eval()
    path = export(net, tmp_path / "net.onnx", SHAPE, exporter=exporter)
    assert [output.name for output in onnx.load(path).graph.output] == outputs
    batch = torch.rand(4, *SHAPE)
    with torch.inference_mode():
        expected = net(batch)
    for got, wanted in zip(run_onnx(path, batch.numpy()), expected.values() if names else expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_the_only_output_is_called_output(tmp_path):
    model = onnx.load(export(Segmenter(), tmp_path / "net.onnx", SHAPE))
    assert [output.name for output in model.graph.output] == ["output"]


class Attentive(nn.Module):
    """Self-attention as torchvision's ViT has it."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


@pytest.mark.parametrize("exporter", ["default", "legacy"])
def test_multihead_attention_by_both_exporters(tmp_path, exporter):
    before = torch.backends.mha.get_fastpath_enabled()
    path = export(Attentive(), tmp_path / "net.onnx", (5, 2, 4), exporter=exporter)
    assert torch.backends.mha.get_fastpath_enabled() == before
    (size_of_head, heads) = sorted({group.size for group in analyze(path).groups}, reverse=True)
    assert (size_of_head, heads) == (4, 2)


@pytest.mark.parametrize("exporter", ["default", "legacy"])
def test_a_fixed_batch(tmp_path, exporter):
    model = onnx.load(export(small_net(), tmp_path / "net.onnx", SHAPE, batch=4, exporter=exporter))
    sizes = [
        [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert sizes == [[4, *SHAPE], [4, 5]]


@pytest.mark.parametrize(("exporter", "opset"), [("default", 18), ("default", 21), ("legacy", 11), ("legacy", 17)])
def test_the_opset_is_the_one_asked_for(tmp_path, exporter, opset):
    model = onnx.load(export(small_net(), tmp_path / "net.onnx", SHAPE, opset=opset, exporter=exporter))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]


def test_weights_too_large_for_one_file_go_to_a_second(tmp_path, monkeypatch, run_onnx):
    monkeypatch.setattr("ortrim.models.export.SINGLE_FILE_LIMIT", 1000)
    net = small_net().eval()
    path = export(net, tmp_path / "net.onnx", SHAPE)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    batch = torch.rand(2, *SHAPE)
    with torch.inference_mode():
        np.testing.assert_allclose(run_onnx(path, batch.numpy())[0], net(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "options", "error", "part"),
    [
        (nn.Linear(4, 4), {}, InputError, "does not take an input of shape (2, 3, 8, 8)"),
        (OnlyEight(), {}, InputError, "ValueError: eight images"),
        (Text(), {}, InputError, "returns str, not tensors"),
        (Noisy(), {}, VerificationError, "output 'output' is"),
        (nn.ReLU(), {"batch": 0}, InputError, "must be 1 or more"),
        (nn.ReLU(), {"opset": 13}, InputError, "writes 18 and newer"),
        (nn.ReLU(), {"opset": 99}, InputError, "opset"),
        (nn.ReLU(), {"opset": 99, "exporter": "legacy"}, InputError, "99"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path, net, options, error, part):
    with pytest.raises(error) as caught:
        export(net, tmp_path / "net.onnx", SHAPE, **options)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written_are_refused(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(OutputError, match="is a folder"):
        export(nn.ReLU(), tmp_path, SHAPE)
    with pytest.raises(OutputError, match="does not exist"):
        export(nn.ReLU(), tmp_path / "no" / "net.onnx", SHAPE)
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already; --force"):
        export(nn.ReLU(), path, SHAPE)
    assert path.read_text() == "mine"
    export(nn.ReLU(), path, SHAPE, force=True)
    onnx.checker.check_model(str(path))
