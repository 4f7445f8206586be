from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ortrim.errors import ModelError
from ortrim.runtime import LayerShape, example_inputs, layer_shapes, open_session
from ortrim.runtime.layer_model import control_model, layer_model
from ortrim.runtime.layers import ACTIVATIONS

_CONV = {"kernel": (3, 3), "pads": (1, 1, 1, 1)}
_SHAPES = [
    LayerShape("Conv", 16, 24, (8, 8), **_CONV),
    LayerShape("Conv", 3, 7, (9, 12), kernel=(5, 3), strides=(2, 1), pads=(2, 0, 1, 2), dilations=(1, 2), batch=2),
    LayerShape("Conv", 12, 12, (8, 8), **_CONV, group=12, activation="Clip"),
    LayerShape("Conv", 12, 24, (8, 8), kernel=(1, 1), group=3, activation="Relu"),
    LayerShape("Conv", 4, 6, (30,), kernel=(5,), strides=(2,), pads=(2, 2)),
    LayerShape("Conv", 2, 3, (4, 5, 6), kernel=(3, 3, 3)),
    LayerShape("Conv", 4, 8, (8, 8), kernel=(1, 1), dtype="float16"),
    LayerShape("ConvTranspose", 6, 4, (5, 5), kernel=(4, 4), strides=(2, 2), pads=(1, 1, 1, 1), group=2),
    LayerShape("Gemm", 10, 7, (3,), activation="Sigmoid"),
    LayerShape("MatMul", 10, 7, (49,), activation="Gelu"),
]


@pytest.mark.parametrize("shape", _SHAPES, ids=lambda s: f"{s.op}-{s.c_in}-{s.c_out}-{len(s.spatial)}d")
def test_layer_model_holds_that_layer(device, shape):
    """onnxruntime runs both models, and the layer read back from the first is the one that was asked for."""
    for source in (layer_model(shape), control_model(shape)):
        session = open_session(source, device)
        (output,) = session.run(example_inputs(session))
        assert output.size == (1 if shape.op in ("Gemm", "MatMul") else shape.batch)
        assert np.isfinite(output).all()
    found = list(layer_shapes(layer_model(shape)).values())
    assert shape in found
    assert shape not in layer_shapes(control_model(shape)).values()
    proto = onnx.load_from_string(layer_model(shape))
    assert [node.op_type for node in proto.graph.node].count(shape.activation) == bool(shape.activation)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_is_one_that_runs(device, activation):
    open_session(layer_model(LayerShape("Conv", 4, 4, (4, 4), kernel=(1, 1), activation=activation)), device)


@given(
    op=st.sampled_from(["Conv", "ConvTranspose"]),
    size=st.integers(1, 20),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
)
def test_output_size_agrees_with_onnx(op, size, kernel, stride, pads, dilation):
    try:
        shape = LayerShape(op, 2, 3, (size,), (kernel,), (stride,), pads, (dilation,))
    except ModelError:
        assume(False)
        return
    model = onnx.load_from_string(layer_model(shape))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    dims = next(info.type.tensor_type.shape.dim for info in inferred.graph.value_info if info.name == "made")
    assert [d.dim_value for d in dims] == [1, 3, *shape.spatial_out]


def test_multiplications():
    assert LayerShape("Conv", 16, 32, (8, 8), **_CONV, strides=(2, 2)).macs == 4 * 4 * 9 * 16 * 32
    assert LayerShape("Conv", 16, 16, (8, 8), **_CONV, group=16).macs == 64 * 9 * 16
    assert LayerShape("ConvTranspose", 4, 2, (3, 3), kernel=(2, 2), strides=(2, 2)).macs == 9 * 4 * 4 * 2
    assert LayerShape("Gemm", 10, 7, (3,)).macs == 210


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "Pool"},
        {"c_in": 0},
        {"group": 5},
        {"kernel": (3,)},
        {"strides": (0, 1)},
        {"pads": (-1, 0, 0, 0)},
        {"kernel": (9, 9)},
        {"activation": "Add"},
        {"dtype": "int4"},
        {"op": "Gemm"},
    ],
)
def test_nonsense_is_refused(fields):
    with pytest.raises(ModelError, match="layer shape"):
        LayerShape(**{"op": "Conv", "c_in": 4, "c_out": 4, "spatial": (8, 8), "kernel": (3, 3)} | fields)


@pytest.mark.parametrize("shape", _SHAPES)
def test_shape_survives_json(shape):
    assert LayerShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape
    with pytest.raises(ModelError):
        LayerShape.from_dict({"width": 3})


def _mixed_model() -> onnx.ModelProto:
    """Dynamic batch, a computed pad, BatchNormalization before the activation, auto_pad, a name left out, a weight that
    is computed and a residual sum."""
    rng = np.random.default_rng(0)
    arrays = {
        "w0": rng.standard_normal((8, 3, 3, 3)),
        "w1": rng.standard_normal((8, 1, 3, 3)),
        "w2": rng.standard_normal((8, 8, 1, 1)),
        "w3": rng.standard_normal((5, 8)),
        **{name: np.ones(8) for name in ("scale", "bias", "mean", "var")},
    }
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()]
    pads = helper.make_tensor("p", TensorProto.INT64, [4], [0, 0, 1, 1])
    nodes = [
        helper.make_node("Constant", [], ["half"], value=pads),
        helper.make_node("Concat", ["half", "half"], ["pads"], axis=0),
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("Conv", ["padded", "w0"], ["c0"], name="first", strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c0", "scale", "bias", "mean", "var"], ["n0"]),
        helper.make_node("Relu", ["n0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], group=8, auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("Conv", ["c1", "w2"], ["c2"], name="third"),
        helper.make_node("Add", ["c2", "c1"], ["sum"]),
        helper.make_node("HardSwish", ["sum"], ["h"]),
        helper.make_node("GlobalAveragePool", ["h"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["y"], name="head", transB=1),
        helper.make_node("MatMul", ["y", "y2"], ["z"], name="product"),
        helper.make_node("Transpose", ["y"], ["y2"]),
    ]
    nodes[-1], nodes[-2] = nodes[-2], nodes[-1]
    graph = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_layers_of_a_model(tmp_path):
    model = _mixed_model()
    path = tmp_path / "mixed.onnx"
    onnx.save(model, path)
    before = model.SerializeToString()
    expected = {
        "first": LayerShape("Conv", 3, 8, (18, 18), kernel=(3, 3), strides=(2, 2), activation="Relu"),
        "c1": LayerShape("Conv", 8, 8, (8, 8), kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1), group=8),
        "third": LayerShape("Conv", 8, 8, (4, 4), kernel=(1, 1), activation="HardSwish"),
        "head": LayerShape("Gemm", 8, 5, (1,)),
    }
    for given_model in (model, path, path.read_bytes()):
        assert layer_shapes(given_model) == expected
    assert model.SerializeToString() == before
    batched = layer_shapes(model, {"x": (4, 3, 16, 16)})
    assert batched["first"].batch == 4
    assert batched["head"].spatial == (4,)
    with pytest.raises(ModelError):
        layer_shapes(tmp_path / "absent.onnx")
