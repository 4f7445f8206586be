from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from ortrim.runtime.service.gate import fault_in_model

from .conftest import endless_model, huge_model, model_of, small_model


@pytest.mark.parametrize("model", [small_model(), endless_model(), huge_model()], ids=["small", "endless", "huge"])
def test_valid_models_are_let_in(model):
    assert fault_in_model(model.SerializeToString()) is None


def test_functions_of_the_model_itself_are_let_in():
    model = model_of([helper.make_node("Twice", ["x"], ["y"], domain="own")])
    add = helper.make_node("Add", ["a", "a"], ["b"])
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], [add], model.opset_import))
    model.opset_import.append(helper.make_opsetid("own", 1))
    assert fault_in_model(model.SerializeToString()) is None


def _external(tensor: TensorProto) -> TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def _with_external_weight() -> onnx.ModelProto:
    model = small_model()
    _external(model.graph.initializer[0])
    return model


def _with_external_attribute() -> onnx.ModelProto:
    """Deep inside a loop, where a look at the initializers alone would miss it."""
    model = endless_model()
    value = _external(helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]))
    node = helper.make_node("Constant", [], ["unused"], value=value)
    model.graph.node[0].attribute[0].g.node.append(node)
    return model


def _with_address() -> onnx.ModelProto:
    """onnxruntime's own marker for weights that lie at an address of the process."""
    model = small_model()
    tensor = _external(model.graph.initializer[0])
    tensor.external_data[0].value = "*/_ORT_MEM_ADDR_/*"
    return model


def _with_node(operator: str, domain: str) -> onnx.ModelProto:
    model = model_of([helper.make_node(operator, ["x"], ["y"], domain=domain)])
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def _cyclic() -> onnx.ModelProto:
    return model_of([helper.make_node("Relu", ["z"], ["y"]), helper.make_node("Relu", ["y"], ["z"])])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an ONNX model"),
        (b"\x00" * 64, "not an ONNX model"),
        (b"PK\x03\x04 an archive", "not an ONNX model"),
        (small_model().SerializeToString()[:-20], "not an ONNX model"),
        (b"\x08\x00\x00\x00ORTM" + bytes(64), "own format"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph"),
        (_with_external_weight().SerializeToString(), "other files"),
        (_with_external_attribute().SerializeToString(), "other files"),
        (_with_address().SerializeToString(), "other files"),
        (_with_node("Evil", "my.library").SerializeToString(), "custom libraries are refused"),
        (_with_node("EPContext", "com.microsoft").SerializeToString(), "reaches outside"),
        (_with_node("PythonOp", "com.microsoft").SerializeToString(), "reaches outside"),
        (_cyclic().SerializeToString(), "onnx.checker"),
        (model_of([helper.make_node("NoSuchOperator", ["x"], ["y"])]).SerializeToString(), "onnx.checker"),
    ],
)
def test_others_are_kept_out(content, reason):
    fault = fault_in_model(content)
    assert fault is not None
    assert reason in fault
    assert "\n" not in fault
