"""Gradients, statistics, training and writing back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional

from ortrim.errors import ModelError
from ortrim.graph import load, to_torch, write_back
from ortrim.graph.run import run_as_written
from ortrim.models.digits import MODEL as DIGITS


class Residual(nn.Module):
    """A small net written by hand, and the same as a graph."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6, momentum=0.3, eps=1e-3)
        self.inner = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.slope = nn.Parameter(torch.rand(6))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x)))
        y = y + functional.prelu(self.inner(y), self.slope)
        return self.head(y.mean((2, 3)))

    def graph(self):
        make = helper.make_node
        nodes = [
            make("Conv", ["x", "conv.weight"], ["c"], "conv", pads=[1] * 4, strides=[2, 2]),
            make("BatchNormalization", ["c", *(f"norm.{k}" for k in STATE)], ["n"], "norm", momentum=0.7, epsilon=1e-3),
            make("Relu", ["n"], ["r"], "relu"),
            make("Conv", ["r", "inner.weight", "inner.bias"], ["i"], "inner", pads=[1] * 4, group=3),
            make("PRelu", ["i", "slope"], ["p"], "prelu"),
            make("Add", ["r", "p"], ["s"], "add"),
            make("ReduceMean", ["s"], ["m"], "mean", axes=[2, 3], keepdims=0),
            make("Gemm", ["m", "head.weight", "head.bias"], ["out"], "head", transB=1),
        ]
        values = {k: v.detach().numpy().copy() for k, v in self.state_dict().items() if "batches" not in k}
        values["slope"] = values["slope"].reshape(6, 1, 1)
        weights = [numpy_helper.from_array(value, name) for name, value in values.items()]
        ends = [
            helper.make_tensor_value_info("x", 1, ("n", 3, 8, 8)),
            helper.make_tensor_value_info("out", 1, ("n", 4)),
        ]
        graph = helper.make_graph(nodes, "residual", ends[:1], ends[1:], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


STATE = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Residual()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 3, 8, 8, generator=generator), torch.randint(0, 4, (5,), generator=generator)


def test_what_trains(net):
    module = to_torch(net.graph())
    assert set(dict(module.named_parameters())) == set(dict(net.named_parameters()))
    assert set(dict(module.named_buffers())) == {"norm.running_mean", "norm.running_var"}


def test_gradients_and_statistics_are_those_of_the_net(net, data):
    x, target = data
    module = to_torch(net.graph()).train()
    net.train()
    for model in (net, module):
        functional.cross_entropy(model(x), target).backward()
    for name, parameter in net.named_parameters():
        own = module.initializers[name].grad
        torch.testing.assert_close(own.reshape(parameter.grad.shape), parameter.grad, rtol=1e-4, atol=1e-6)
    for key in STATE[2:]:
        torch.testing.assert_close(module.initializers[f"norm.{key}"], getattr(net.norm, key))
    torch.testing.assert_close(module.eval()(x), net.eval()(x))


def test_evaluation_moves_nothing(net, data):
    module = to_torch(net.graph())
    assert not module.training
    before = {name: value.clone() for name, value in module.initializers.items()}
    module(data[0])
    assert all(torch.equal(before[name], value) for name, value in module.initializers.items())


def test_training_goes_the_same_way(net, data):
    x, target = data
    module = to_torch(net.graph()).train()
    net.train()
    for model in (net, module):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), target).backward()
            optimizer.step()
    torch.testing.assert_close(module.eval()(x), net.eval()(x), rtol=1e-3, atol=1e-4)


def without(model, names):
    """Serialised, with the data of these initializers taken out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in names:
            for field in ("raw_data", "float_data", "int32_data"):
                tensor.ClearField(field)
    return copy.SerializeToString(deterministic=True)


def test_written_back_it_computes_what_the_module_does(net, data):
    x, target = data
    model = load(net.graph())
    before = model.SerializeToString()
    module = to_torch(model).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    functional.cross_entropy(module(x), target).backward()
    optimizer.step()
    trained = write_back(model, module)
    assert model.SerializeToString() == before
    onnx.checker.check_model(trained, full_check=True)
    found = run_as_written(trained, {"x": x.numpy()})["out"]
    np.testing.assert_allclose(found, module.eval()(x).detach(), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, run_as_written(model, {"x": x.numpy()})["out"], atol=1e-3)
    # Every parameter and statistic is another now, and nothing else is.
    old, new = ({t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (model, trained))
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert changed == module.learned == set(old)
    assert without(model, changed) == without(trained, changed)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_types_stay(one_node, dtype):
    x, weight = np.ones((2, 3), dtype), np.arange(12, dtype=dtype).reshape(3, 4)
    model = load(one_node("MatMul", [x, weight], constants=(1,)))
    module = to_torch(model)
    with torch.no_grad():
        module.initializers["i1"].add_(1)
    trained = write_back(model, module.float())
    (tensor,) = trained.graph.initializer
    assert numpy_helper.to_array(tensor).dtype == dtype
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), weight + 1)


def test_unchanged_it_is_the_same_to_the_byte():
    model = load(DIGITS)
    assert write_back(model, to_torch(model)).SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )


def test_a_module_of_another_model_is_refused(net):
    with pytest.raises(ModelError, match="is no initializer of this model"):
        write_back(DIGITS, to_torch(net.graph()))
    with pytest.raises(ModelError, match="got Linear"):
        write_back(DIGITS, nn.Linear(2, 2))


def quantized(*, per_channel):
    """Quantize, dequantize, Conv with an int8 weight and an int32 bias, quantize, dequantize."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.01, 0.03, 4 if per_channel else ()).astype(np.float32)
    values = {
        "q": rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8),
        "scale": scale,
        "zero": np.zeros(scale.shape, np.int8) if per_channel else np.array(3, np.int8),
        "bias": rng.integers(-(2**30), 2**30, 4).astype(np.int32),
        "bias_scale": np.float32(1e-9),
        "x_scale": np.float32(0.05),
        "x_zero": np.uint8(110),
        "y_scale": np.float32(0.2),
        "y_zero": np.uint8(100),
    }
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], "quantize"),
        make("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], "dequantize"),
        make("DequantizeLinear", ["q", "scale", "zero"], ["w"], "weight", axis=0),
        make("DequantizeLinear", ["bias", "bias_scale"], ["b"], "bias"),
        make("Conv", ["xd", "w", "b"], ["y"], "conv", pads=[1] * 4),
        make("QuantizeLinear", ["y", "y_scale", "y_zero"], ["yq"], "quantize_y"),
        make("DequantizeLinear", ["yq", "y_scale", "y_zero"], ["out"], "dequantize_y"),
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    x = helper.make_tensor_value_info("x", 1, ("n", 3, 6, 6))
    out = helper.make_tensor_value_info("out", 1, ("n", 4, 6, 6))
    graph = helper.make_graph(nodes, "quantized", [x], [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantized_weights_train(agree, per_channel):
    model = load(quantized(per_channel=per_channel))
    x = np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)
    module = agree(model, {"x": x})
    assert set(dict(module.named_parameters())) == {"q", "bias"}
    assert write_back(model, module).SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )
    given = torch.from_numpy(x).requires_grad_()
    module(given).square().mean().backward()
    assert given.grad.abs().sum() > 0  # straight through the rounding
    weight = module.initializers["q"]
    assert weight.grad.abs().sum() > 0
    before = weight.detach().clone()
    with torch.no_grad():
        weight.sub_(0.2 * weight.grad / weight.grad.abs().max())
        module.initializers["bias"].add_(0.01)
    trained = write_back(model, module)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in trained.graph.initializer}
    assert tensors["q"].dtype == np.int8
    assert tensors["bias"].dtype == np.int32
    # Every integer is within half a step of the float, or at the end of the range.
    steps = tensors["scale"].reshape(-1, 1, 1, 1) if per_channel else tensors["scale"]
    zero = tensors["zero"].reshape(-1, 1, 1, 1) if per_channel else tensors["zero"]
    apart = np.abs((tensors["q"].astype(np.float32) - zero) * steps - weight.detach().numpy()) / steps
    assert ((apart <= 0.501) | (np.abs(tensors["q"].astype(int) + 0.5) > 127)).all()
    assert not torch.equal(before, weight)
    found = run_as_written(trained, {"x": x})["out"]
    np.testing.assert_allclose(found, module(torch.from_numpy(x)).detach(), atol=0.21)  # one step of the output
    assert np.mean(np.abs(found - module(torch.from_numpy(x)).detach().numpy()) > 1e-3) < 0.02


@pytest.mark.parametrize(("most", "limit"), [(64, 64), (65, 127)])
def test_weights_of_seven_bits_stay_within_them(most, limit):
    """As some processors need; one integer beyond says that the file uses all eight."""
    original = quantized(per_channel=False)
    (tensor,) = (item for item in original.graph.initializer if item.name == "q")
    integers = np.clip(numpy_helper.to_array(tensor), -64, 64)
    integers.flat[0] = most
    tensor.CopyFrom(numpy_helper.from_array(integers, "q"))
    model = load(original)
    module = to_torch(model)
    with torch.no_grad():
        module.initializers["q"].mul_(100)
    found = next(numpy_helper.to_array(t) for t in write_back(model, module).graph.initializer if t.name == "q")
    assert found.max() == limit
    assert np.abs(found.astype(int)).max() <= limit + (limit == 127)


def test_straight_through_gradient(one_node):
    """1 inside the range, 0 outside it; to the bit the rounded value."""
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        make("DequantizeLinear", ["q", "s", "z"], ["o"], "d"),
    ]
    weights = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(10), "z")]
    x, o = (helper.make_tensor_value_info(name, 1, (4,)) for name in "xo")
    graph = helper.make_graph(nodes, "g", [x], [o], weights)
    module = to_torch(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    given = torch.tensor([0.123, -0.38, 20.0, -20.0], requires_grad=True)
    found = module(given)
    torch.testing.assert_close(found.detach(), torch.tensor([0.1, -0.4, 11.7, -13.8]))
    found.sum().backward()
    assert given.grad.tolist() == [1, 1, 0, 0]


def test_dropout_drops_where_it_is_told_to(one_node):
    torch.manual_seed(0)
    module = to_torch(one_node("Dropout", [np.ones((100, 100), np.float32), np.float32(0.25)], constants=(1,)))
    x = torch.ones(100, 100)
    for training, dropout in ((False, False), (True, False), (False, True)):
        module.dropout = dropout
        assert torch.equal(module.train(training)(x), x)
    found = module.train()(x)
    torch.testing.assert_close(found.unique(), torch.tensor([0, 4 / 3]))
    assert 0.7 < (found > 0).float().mean() < 0.8


def test_vectors_after_layers_train_and_others_do_not():
    """Biases and layer scales; not masks, anchors, the image's mean, or numbers."""
    make = helper.make_node
    shapes = {
        "image_mean": (1, 3, 1, 1),
        "w": (3, 8),
        "bias": (8,),
        "gamma": (8,),
        "mask": (4, 8),
        "one": (1,),
        "anchors": (8,),
        "table": (1, 4, 8),
    }
    nodes = [
        make("Sub", ["x", "image_mean"], ["a"]),
        make("GlobalAveragePool", ["a"], ["p"]),
        make("Reshape", ["p", "shape"], ["f"]),
        make("MatMul", ["f", "w"], ["m"]),
        make("Add", ["m", "bias"], ["b"]),
        make("Mul", ["b", "gamma"], ["g"]),
        make("Mul", ["g", "one"], ["h"]),
        make("Sigmoid", ["h"], ["s"]),
        make("Mul", ["s", "anchors"], ["t"]),
        make("Add", ["t", "table"], ["u"]),
        make("Add", ["u", "mask"], ["out"]),
    ]
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.random(shape, np.float32), name) for name, shape in shapes.items()]
    weights.append(numpy_helper.from_array(np.array([-1, 3]), "shape"))
    ends = [helper.make_tensor_value_info("x", 1, (4, 3, 2, 2)), helper.make_tensor_value_info("out", 1, (1, 4, 8))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    module = to_torch(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert set(dict(module.named_parameters())) == {"w", "bias", "gamma"}
    assert {"mask", "anchors", "image_mean", "one", "table", "shape"} <= set(dict(module.named_buffers()))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_weights_have_the_gradients_of_steps_written_out(one_node, kind):
    """torch's own layer against the loop: what takes the loop (a clip that never bites) has the same gradients."""
    rng = np.random.default_rng(0)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = [(5, 2, 3), (1, gates * 4, 3), (1, gates * 4, 4), (1, 2 * gates * 4)]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    more = {"hidden_size": 4} | ({"linear_before_reset": 1} if kind == "GRU" else {})
    grads = []
    for clip in ({}, {"clip": 1e6}):
        module = to_torch(one_node(kind, arrays, constants=(1, 2, 3), outputs=2, opset=14, **more, **clip))
        module(torch.from_numpy(arrays[0]))[0].square().sum().backward()
        grads.append([module.initializers[f"i{place}"].grad for place in (1, 2, 3)])
    for ours, theirs in zip(*grads, strict=True):
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "groups"), [("Conv", 1), ("Conv", 25), ("ConvTranspose", 1), ("ConvTranspose", 25)])
def test_dilated_convolutions_have_sound_gradients_in_bfloat16(kind, groups):
    """oneDNN's are not, with the channels last."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((25, 25 // groups, 3, 3)).astype(np.float32)
    node = helper.make_node(kind, ["x", "w"], ["y"], "conv", dilations=[2, 2], pads=[2] * 4, group=groups)
    ends = [helper.make_tensor_value_info(name, 1, ("n", 25, 45, 60)) for name in "xy"]
    graph = helper.make_graph([node], "dilated", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8))
    x = torch.from_numpy(rng.random((4, 25, 45, 60), np.float32)).contiguous(memory_format=torch.channels_last)
    gradients = []
    for mixed in (False, True):
        module = to_torch(model).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            made = module(x)
        (made.float() * torch.from_numpy(np.sin(np.arange(made.numel()))).float().view_as(made)).sum().backward()
        (parameter,) = module.parameters()
        gradients.append(parameter.grad)
    exact, rough = gradients
    assert float((rough - exact).norm() / exact.norm()) < 0.05
