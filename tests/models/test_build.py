import pytest
import torch
from torch import nn

from ortrim.errors import InputError, ModelError
from ortrim.models.build import build
from ortrim.models.registry import FACTORIES


@pytest.fixture
def no_downloads(monkeypatch):
    def refuse(url: str, *_args, **_kwargs):
        pytest.fail(f"tried to download {url}")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)


def state_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("name", FACTORIES)
def test_own_nets_take_the_shape_that_they_name(name):
    net = build(f"ortrim:{name}")
    assert not net.module.training
    with torch.inference_mode():
        assert net.module(torch.rand(2, *net.shape)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("squeezenet1_1", (3, 224, 224)),
        ("inception_v3", (3, 299, 299)),
        ("lraspp_mobilenet_v3_large", (3, 520, 520)),
        ("swin_v2_t", (3, 256, 256)),
        ("r3d_18", (3, 16, 112, 112)),
    ],
)
def test_torchvision_nets_come_at_their_evaluation_size_without_downloads(name, shape, no_downloads):
    assert build(f"torchvision:{name}").shape == shape


def test_size_reaches_nets_that_are_built_for_one():
    net = build("torchvision:vit_b_32", size=(96, 96))
    assert net.shape == (3, 96, 96)
    with torch.inference_mode():
        assert net.module(torch.rand(1, *net.shape)).shape == (1, 1000)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (state_of(build("ortrim:digits", seed=seed).module) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before), "the caller's random state changed"
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv.weight"], other["conv.weight"])


def test_a_factory_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_nets_for_ortrim.py").write_text(
        "from torch import nn\nclass nets:\n    @staticmethod\n    def gray():\n        return nn.Conv2d(1, 4, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    net = build("my_nets_for_ortrim:nets.gray", size=(20, 30))
    assert net.shape == (1, 20, 30), "as many channels as the first convolution reads"


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("resnet20", "names no net"),
        ("ortrim:", "names no net"),
        ("ortrim:resnet21", "did you mean resnet32, resnet20"),
        ("ortrim:xyzzy", "there are digits, resnet20"),
        ("torchvision:mobilnet_v2", "mobilenet_v2"),
        ("torchvision:fasterrcnn_resnet50_fpn", "list of images"),
        ("torchvision:quantized_resnet18", "quantize the ONNX file"),
        ("no_such_package_here:net", "No module named 'no_such_package_here'"),
        ("torch.nn:RelU", "did you mean ReLU"),
        ("torch.nn:Linear", "the factory failed: TypeError"),
        ("builtins:dict", "must return a torch.nn.Module, got dict"),
    ],
)
def test_a_bad_spec_is_refused_in_one_line(spec, part):
    with pytest.raises(InputError) as caught:
        build(spec)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_factory_that_raises_several_lines_is_reported_in_one(tmp_path, monkeypatch):
    (tmp_path / "failing_net_for_ortrim.py").write_text("def net(): raise RuntimeError('\\n first \\n second')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"^failing_net_for_ortrim:net: the factory failed: RuntimeError: first;[^\n]*$"
    ):
        build("failing_net_for_ortrim:net")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_loaded_as_training_scripts_save_it(tmp_path, wrap, prefix):
    saved = state_of(build("ortrim:digits", seed=3).module)
    torch.save(wrap({prefix + name: value for name, value in saved.items()}), tmp_path / "net.pth")
    loaded = state_of(build("ortrim:digits", weights=tmp_path / "net.pth").module)
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)


def test_auxiliary_heads_and_batch_norms_counter_may_differ(tmp_path):
    saved = state_of(build("ortrim:digits", seed=3).module)
    saved["aux1.conv.weight"] = torch.zeros(1)
    old = {name: value for name, value in saved.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "net.pth")
    loaded = state_of(build("ortrim:digits", weights=tmp_path / "net.pth").module)
    assert torch.equal(loaded["conv.weight"], saved["conv.weight"])


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    saved = state_of(build("ortrim:digits").module)
    torch.save(saved | {"fc.weight": torch.zeros(7, 96)}, path)
    with pytest.raises(InputError, match=r"fc.weight is \(7, 96\) in the file and \(10, 96\) in the net"):
        build("ortrim:digits", weights=path)
    torch.save({"other": saved.pop("fc.bias"), **saved}, path)
    with pytest.raises(InputError, match=r"1 missing \(fc.bias\) and 1 unknown \(other\)"):
        build("ortrim:digits", weights=path)


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    with pytest.raises(ModelError, match="No such file"):
        build("ortrim:digits", weights=path)
    torch.save(nn.Linear(2, 2), path)  # a pickled object: loading it would run code from the file
    with pytest.raises(ModelError, match="without running code"):
        build("ortrim:digits", weights=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="not a state dict"):
        build("ortrim:digits", weights=path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ModelError, match="holds no state dict"):
        build("ortrim:digits", weights=path)
