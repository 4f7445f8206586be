"""Which convolutions onnxruntime runs in the blocked layout: the rules of `kernels`, each tried out."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.runtime import Device, explain


def conv_behind_conv(channels, out=16, *, group=1, size=3, rank=2, fixed=("w", "b"), activation="", **attributes):
    """A 1x1 convolution from one channel, and behind it the one that is tried out, `conv`."""
    values = {
        "stem": np.ones((channels, 1) + (1,) * rank, np.float32),
        "w": np.ones((out, channels // group) + (size,) * rank, np.float32),
        "b": np.ones(out, np.float32),
    }
    open_values = [name for name in values if name not in ("stem", *fixed)]
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["s"], name="first"),
        helper.make_node("Conv", ["s", "w", "b"], ["c"], name="conv", group=group, **attributes),
    ]
    if activation:
        nodes.append(helper.make_node(activation, ["c"], ["y"], name="act"))
    shapes = {"x": (1, 1) + (12,) * rank} | {name: values[name].shape for name in open_values}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y" if activation else "c", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values[name], name) for name in values if name not in open_values],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def seen(model, spec="cpu:threads=1"):
    found = explain(model, Device.parse(spec), runs=1)
    return next(layer for layer in found.layers if layer.layer == "conv")


@pytest.fixture(scope="module", autouse=True)
def blocking():
    """Where this processor has no blocked kernels there is nothing to try."""
    if seen(conv_behind_conv(32)).layout != "blocked":
        pytest.skip("onnxruntime has no blocked kernels for this processor")


@pytest.mark.parametrize("channels", [16, 20, 32, 36])
def test_multiples_of_four_run_blocked(channels):
    assert seen(conv_behind_conv(channels)).layout == "blocked"


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7])
def test_fewer_channels_than_a_block_do_too(channels):
    assert seen(conv_behind_conv(channels)).layout == "blocked"


@pytest.mark.parametrize("channels", [17, 18, 22, 31, 34])
def test_others_do_not(channels):
    layer = seen(conv_behind_conv(channels))
    assert (layer.layout, layer.reason) == ("plain", f"reads {channels} channels, not a multiple of 4")


@pytest.mark.parametrize("out", [1, 3, 13, 17])
def test_how_many_channels_it_makes_does_not_matter(out):
    assert seen(conv_behind_conv(32, out)).layout == "blocked"


@pytest.mark.parametrize(
    "attributes",
    [
        {"dilations": [2, 2]},
        {"strides": [2, 2]},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "VALID"},
        {"pads": [0, 2, 1, 0]},
    ],
)
def test_nor_do_dilations_strides_and_paddings(attributes):
    assert seen(conv_behind_conv(16, **attributes)).layout == "blocked"


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Elu", "Softplus"])
def test_nor_does_the_activation(activation):
    assert seen(conv_behind_conv(16, activation=activation)).layout == "blocked"


@pytest.mark.parametrize(("channels", "layout"), [(12, "blocked"), (20, "blocked"), (14, "plain"), (30, "plain")])
def test_depthwise(channels, layout):
    layer = seen(conv_behind_conv(channels, channels, group=channels))
    assert layer.layout == layout
    assert ("depthwise with" in layer.reason) == (layout == "plain")


@pytest.mark.parametrize(
    ("channels", "out", "group", "layout"),
    [(32, 32, 2, "blocked"), (64, 32, 2, "blocked"), (24, 24, 2, "plain"), (64, 40, 2, "plain"), (16, 32, 16, "plain")],
)
def test_groups(channels, out, group, layout):
    layer = seen(conv_behind_conv(channels, out, group=group))
    assert layer.layout == layout
    if layout == "plain":
        assert layer.reason.startswith(f"{group} groups, each with {channels // group} channels in and {out // group}")


@pytest.mark.parametrize(
    ("missing", "reason"), [("w", "its weight is not a constant"), ("b", "its bias is not a constant")]
)
def test_weight_and_bias_have_to_be_constants(missing, reason):
    layer = seen(conv_behind_conv(16, fixed={"w", "b"} - {missing}))
    assert (layer.layout, layer.reason) == ("plain", reason)


def test_an_initializer_that_is_an_input_too_is_no_constant():
    model = conv_behind_conv(16)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 16, 3, 3]))
    assert seen(model).reason == "its weight is not a constant"


@pytest.mark.parametrize(
    ("rank", "reason"), [(1, "it has 1 spatial axis, not two"), (3, "it has 3 spatial axes, not two")]
)
def test_two_spatial_axes(rank, reason):
    layer = seen(conv_behind_conv(16, rank=rank))
    assert (layer.layout, layer.reason) == ("plain", reason)


@pytest.mark.parametrize("level", ["extended", "basic", "disable"])
def test_layouts_are_the_last_optimisation(level):
    layer = seen(conv_behind_conv(16), f"cpu:threads=1,opt={level}")
    assert (layer.layout, layer.reason) == ("plain", f"opt={level}: layouts change with opt=all only")


def test_float16_runs_as_float32():
    model = conv_behind_conv(16)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    found = explain(model, Device.parse("cpu:threads=1"), runs=1)
    assert {layer.layer for layer in found.layers if layer.layout == "blocked"} == {"first", "conv"}
    assert {layer.op for layer in found.layers} == {"Conv", "Cast"}
