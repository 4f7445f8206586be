from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from ortrim.errors import ModelError
from ortrim.runtime import example_inputs, measure

_TYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
}


def _identity(types, shape):
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, kind in types.items()]
    outputs = [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, kind in types.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in types]
    return helper.make_model(
        helper.make_graph(nodes, "identity", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def test_every_type_gets_values_that_are_not_all_zero():
    arrays = example_inputs(_identity(_TYPES, ["N", 50, 2]))
    for name in _TYPES:
        assert arrays[name].dtype == np.dtype(name)
        assert arrays[name].shape == (1, 50, 2)
        assert arrays[name].any()
    assert abs(float(arrays["float32"].std()) - 1) < 0.3
    assert set(np.unique(arrays["int64"])) == {0, 1}


def test_text_inputs_have_to_be_given(device):
    model = _identity({"words": TensorProto.STRING}, [1])
    with pytest.raises(ModelError, match="'words' is a tensor"):
        measure(model, device)


def test_same_seed_same_values_by_name(conv_net):
    wide, narrow = conv_net(channels=32), conv_net(channels=4)
    assert np.array_equal(example_inputs(wide)["x"], example_inputs(narrow)["x"])
    assert not np.array_equal(example_inputs(wide)["x"], example_inputs(wide, seed=1)["x"])


def test_shapes_fill_dynamic_axes(conv_net, device):
    model = conv_net(batch="N")
    assert example_inputs(model)["x"].shape == (1, 3, 16, 16)
    assert example_inputs(model, {"x": (5, 3, 16, 16)})["x"].shape == (5, 3, 16, 16)
    for shape in ((5, 3, 16), (5, 4, 16, 16), (0, 3, 16, 16)):
        with pytest.raises(ModelError, match="does not fit"):
            example_inputs(model, {"x": shape})
    for attempt in (lambda: example_inputs(model, {"z": (1,)}), lambda: measure(model, device, shapes={"z": (1,)})):
        with pytest.raises(ModelError, match="no input 'z'; its inputs are x"):
            attempt()


def test_missing_input_is_named(conv_net, device):
    with pytest.raises(ModelError, match="needs input 'x'"):
        measure(conv_net(), device, inputs={"image": np.ones(3)})
