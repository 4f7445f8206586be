"""What goes out: no denormals, shared weights shared, provenance in the header, valid."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.errors import VerificationError
from ortrim.graph import finish, load, slim


@pytest.fixture
def model(net):
    n = net()
    return load(n.model(n.head(n.relu(n.conv("x", 6)))))


def weights(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def run(model, image):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})[0]


def test_tiny_weights_become_zero_and_nothing_else_changes(model):
    name = model.graph.node[0].input[1]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array[0, 0, 0] = [1e-21, -1e-38, 1e-45]
    array[0, 0, 1] = [1e-19, -1e-19, 0]
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    before = model.SerializeToString()
    done = weights(finish(model, {}))
    assert model.SerializeToString() == before
    assert not done[name][0, 0, 0].any()
    assert done[name][0, 0, 1].tolist() == np.float32([1e-19, -1e-19, 0]).tolist()
    array[0, 0, 0] = 0
    assert np.array_equal(done[name], array)
    assert all(np.array_equal(done[other], kept) for other, kept in weights(model).items() if other != name)


def test_doubles_are_flushed_and_other_types_left_alone(net):
    n = net(dtype=np.float64)
    small = n.constant(np.array([1e-30, 1.0]))
    counts = n.integers(0, 0)
    out = n.op("Add", n.op("Reshape", n.op("Flatten", "x"), n.integers(-1, 2)), small)
    done = weights(finish(load(n.model(n.op("Reshape", out, counts))), {}))
    assert done[small].tolist() == [0, 1]
    assert any(array.dtype == np.int64 for array in done.values())


def test_metadata_is_added_and_replaced(model):
    helper.set_model_props(model, {"author": "me", "stage": "draft"})
    done = finish(model, {"stage": "slim", "ortrim": "0.1.0"})
    assert {p.key: p.value for p in done.metadata_props} == {"author": "me", "stage": "slim", "ortrim": "0.1.0"}
    assert {p.key: p.value for p in model.metadata_props} == {"author": "me", "stage": "draft"}


def test_no_initializer_is_an_input(net):
    n = net()
    listed = n.model(n.head(n.relu(n.conv("x", 6))))
    listed.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in listed.graph.initializer
    )
    done = finish(slim(listed, {"Conv_0": [2]}), {})
    assert [value.name for value in done.graph.input] == ["x"]


def twice(net):
    """One weight read by two convolutions; (builder, model, name of the weight)."""
    n = net((2, 6, 8, 8))
    shared = n.weight(6, 6, 3, 3)
    a = n.relu(n.op("Conv", "x", shared, channels=6, pads=[1] * 4))
    b = n.op("Conv", a, shared, channels=6, pads=[1] * 4)
    return n, n.model(n.head(n.conv(b, 4))), shared


def test_equal_copies_are_shared_again(net):
    _, model, shared = twice(net)
    done = finish(load(model), {})
    assert [node.input[1] for node in done.graph.node if node.op_type == "Conv"][:2] == [shared, shared]
    assert set(weights(done)) == set(weights(model))


def test_copies_that_were_cut_stay_apart(net):
    _, model, shared = twice(net)
    loaded = load(model)
    small = slim(loaded, {"Conv_0": [1, 2]})
    done = finish(small, {})
    first, second, _ = (node.input[1] for node in done.graph.node if node.op_type == "Conv")
    assert first == shared
    assert second == f"{shared}__2"
    assert weights(done)[first].shape == (4, 6, 3, 3)
    assert weights(done)[second].shape == (6, 4, 3, 3)
    image = np.random.default_rng(0).standard_normal((2, 6, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(done, image), run(small, image))


def test_names_that_only_look_like_copies(net):
    """A file's own `w__2`, equal to `w`, copied by `load` in its turn; and one that is a graph output."""
    n = net((2, 6, 8, 8))
    values = np.random.default_rng(0).standard_normal((6, 6, 3, 3)).astype(np.float32)
    for name in ("w", "w__2", "w__3"):
        n.weights.append(numpy_helper.from_array(values, name))
    x = "x"
    for weight in ("w", "w__2", "w__2", "w__3"):
        x = n.op("Conv", x, weight, channels=6, pads=[1] * 4)
    model = n.model(n.head(x), helper.make_tensor_value_info("w__3", TensorProto.FLOAT, (6, 6, 3, 3)))
    loaded = load(model)
    assert len({node.input[1] for node in loaded.graph.node if node.op_type == "Conv"}) == 4
    done = finish(loaded, {})
    onnx.checker.check_model(done, full_check=True)
    assert {"w", "w__3"} <= set(weights(done)) < set(weights(loaded))
    image = np.random.default_rng(1).standard_normal((2, 6, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(done, image), run(model, image))


def test_a_weight_that_a_subgraph_reads_keeps_its_name(net):
    n = net((2, 6, 8, 8))
    values = np.ones(6, np.float32)
    n.weights += [numpy_helper.from_array(values, name) for name in ("w", "w__2")]
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, (6,))
    body = helper.make_graph([helper.make_node("Identity", ["w__2"], ["inner"])], "body", [], [value])
    condition = n.op("Greater", n.op("ReduceMax", "x", keepdims=0), n.constant(np.float32(0)))
    picked = n.op("If", condition, then_branch=body, else_branch=body)
    kept = n.op("Add", n.op("Flatten", n.op("GlobalAveragePool", "x")), n.op("Mul", "w", "w__2"))
    done = finish(load(n.model(picked, kept)), {})
    image = np.random.default_rng(1).standard_normal((2, 6, 8, 8)).astype(np.float32)
    assert run(done, image).tolist() == values.tolist()


def test_an_invalid_model_does_not_go_out(model):
    del model.graph.initializer[0]
    with pytest.raises(VerificationError, match="not valid ONNX"):
        finish(model, {})
