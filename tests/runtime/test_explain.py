"""Where the time goes, by the graph's own layers."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from ortrim.errors import DeviceError, ModelError
from ortrim.runtime import Device, explain, node_times
from ortrim.runtime.node_profile import nodes_by_provider


def net(text, shapes):
    """A model in ONNX's text form with random weights of these shapes."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(
            numpy_helper.from_array(np.abs(values) if name.startswith("v") else values, name)
        )
    return model


@pytest.fixture
def residual():
    """Convolution, normalisation and activation; a residual block; a Slice that reads the plain layout."""
    return net(
        """net (float[1, 3, 16, 16] x) => (float[1, 16, 8, 16] y) {
            a = Conv<pads=[1, 1, 1, 1]>(x, wa)
            n = BatchNormalization(a, scale, shift, mean, v)
            b = Relu(n)
            c = Conv<pads=[1, 1, 1, 1]>(b, wc)
            s = Add(c, b)
            d = Relu(s)
            e = Conv<pads=[1, 1, 1, 1]>(d, we)
            begin = Constant<value=int64[1] {0}>()
            end = Constant<value=int64[1] {8}>()
            axis = Constant<value=int64[1] {2}>()
            y = Slice(e, begin, end, axis)
        }""",
        {"wa": (16, 3, 3, 3), "wc": (16, 16, 3, 3), "we": (16, 16, 3, 3)}
        | dict.fromkeys(("scale", "shift", "mean", "v"), (16,)),
    )


def test_every_node_is_there_with_its_provider(conv_net, device):
    plain = type(device).parse("cpu:threads=1,opt=disable")
    times = node_times(conv_net(layers=3), plain, runs=3)
    assert [node.op for node in times] == ["Conv", "Relu"] * 3
    assert [node.name for node in times][:2] == ["conv0", "relu0"]
    assert {node.provider for node in times} == {"CPUExecutionProvider"}
    assert all(node.milliseconds >= 0 for node in times)
    assert nodes_by_provider(conv_net(layers=3), plain) == {"CPUExecutionProvider": 6}


def test_fusion_shows(conv_net, device):
    assert len(node_times(conv_net(layers=3), device, runs=1)) < 6 + 2


def test_fused_nodes_belong_to_their_layer(residual, device):
    found = explain(residual, device, runs=3)
    layers = {layer.layer: layer for layer in found.layers}
    # Nodes without a name go by their output.
    assert list(layers) == ["a", "c", "e", "y"]
    assert layers["a"].fused == ("n", "b")
    assert layers["e"].fused == ()
    if layers["a"].layout == "blocked":
        assert layers["c"].fused == ("s", "d")
        assert {layer.kernel for layer in found.convolutions("blocked")} == {"com.microsoft.nchwc.Conv"}
        (reorder,) = found.reorders
        assert (reorder.op, reorder.maker, reorder.readers) == ("ReorderOutput", "e", ("y",))
    assert sum(part.share for part in (*found.layers, *found.reorders)) == pytest.approx(1)


@pytest.mark.parametrize("spec", ["cpu:threads=1,opt=disable", "cpu:threads=1,opt=extended"])
def test_layers_of_other_levels(residual, spec):
    found = explain(residual, Device.parse(spec), runs=1)
    own = {name for layer in found.layers for name in (layer.layer, *layer.fused)}
    assert {"a", "b", "c", "s", "d", "e", "y"} <= own
    assert not found.reorders


def test_nodes_that_share_a_name_are_told_apart(conv_net, device):
    model = conv_net(layers=3)
    for node in model.graph.node:
        node.name = "same"
    layers = explain(model, device, runs=1).layers
    assert [layer.layer for layer in layers] == ["c0", "c1", "c2"]
    assert {node.name for node in model.graph.node} == {"same"}


def test_an_operator_made_of_many_is_one_layer(device):
    model = net(
        """net (float[1, 8, 16] x) => (float[1, 8, 16] y) {
            two = Constant<value=float {2.0}>()
            little = Constant<value=float {0.00001}>()
            flat = Squeeze(x)
            p = MatMul(flat, w)
            m = ReduceMean<axes=[-1]>(p)
            d = Sub(p, m)
            q = Pow(d, two)
            v0 = ReduceMean<axes=[-1]>(q)
            t = Add(v0, little)
            r = Sqrt(t)
            z = Div(d, r)
            g = Mul(z, gain)
            h = Add(g, shift)
            axis = Constant<value=int64[1] {0}>()
            y = Unsqueeze(h, axis)
        }""",
        {"w": (16, 16), "gain": (16,), "shift": (16,)},
    )
    layers = {layer.layer: layer for layer in explain(model, device, runs=1).layers}
    assert layers["h"].kernel == "LayerNormalization"
    assert set(layers["h"].fused) == {"m", "d", "q", "v0", "t", "r", "z", "g"}
    assert layers["p"].fused == ()


def test_nodes_inside_a_loop_are_part_of_it(device):
    branch = [
        helper.make_graph(
            [helper.make_node(op, ["x"], [f"{op}_out"], name=op)],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, [4])],
        )
        for op in ("Relu", "Exp")
    ]
    node = helper.make_node("If", ["which"], ["y"], name="choice", then_branch=branch[0], else_branch=branch[1])
    graph = helper.make_graph(
        [node],
        "net",
        [
            helper.make_tensor_value_info("which", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert [layer.layer for layer in explain(model, device, runs=1).layers] == ["choice"]


def test_a_file_is_explained_as_the_model_in_it_is(conv_net, device, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(conv_net(), path)
    assert [layer.layer for layer in explain(path, device, runs=1).layers] == ["conv0", "conv1"]
    with pytest.raises(ModelError, match="no such file"):
        explain(tmp_path / "absent.onnx", device)


def test_where_the_optimised_graph_cannot_be_written_the_profile_has_to_do(conv_net, monkeypatch):
    """As with providers that compile nodes, here with what the CPU says of a model, under another provider's name."""
    times = node_times(conv_net(), Device.parse("cpu:threads=1"), runs=1)
    asked = []

    def profiled(_model, _device, *, optimized_path, **_):
        asked.append(optimized_path)
        if optimized_path is not None:
            raise DeviceError("the graph contains compiled nodes")
        return times

    monkeypatch.setattr(import_module("ortrim.runtime.explain"), "profiled", profiled)
    found = explain(conv_net(), Device("tensorrt"), runs=1)
    assert len(asked) == 2
    assert [(layer.layer, layer.fused) for layer in found.layers] == [("conv0", ("relu0",)), ("conv1", ("relu1",))]
    assert found.elsewhere == found.layers
    assert found.reorder_ms == pytest.approx(sum(time.milliseconds for time in times if time.op.startswith("Reorder")))


def test_as_json(residual, device):
    found = explain(residual, device, runs=1)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["device"] == "cpu:threads=1"
    assert plain["convolutions"]["blocked"] + plain["convolutions"]["plain"] == 3
    assert plain["providers"] == {"CPUExecutionProvider": 4}
    assert plain["reorder_ms"] == pytest.approx(sum(reorder["milliseconds"] for reorder in plain["reorders"]))
    assert plain["layers"][0]["fused"] == ["n", "b"]
    assert found.elsewhere == ()
