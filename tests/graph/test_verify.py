"""`verify` has to catch every kind of wrong slim model, and to say where."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ortrim.errors import ModelError, VerificationError
from ortrim.graph import analyze, load, slim, verify
from ortrim.graph.run import example_inputs
from ortrim.graph.verify import zeroed


@pytest.fixture
def case(net):
    """Two convolutions and a classifier: (model, a right slim model, the removal)."""
    n = net()
    model = load(n.model(n.head(n.relu(n.bn(n.conv(n.relu(n.conv("x", 8)), 6))))))
    removal = {"Conv_0": [1, 4], "Conv_2": [0]}
    return model, slim(model, removal), removal


def changed(model, node, position, change):
    """A copy in which `change` was done to one weight of one node."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    name = next(n for n in out.graph.node if n.name == node).input[position]
    tensor = next(t for t in out.graph.initializer if t.name == name)
    array = change(numpy_helper.to_array(tensor))
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return out


def refused(case, wrong, **more):
    model, _, removal = case
    with pytest.raises(VerificationError) as caught:
        verify(model, wrong, removal, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_right_model_passes(case):
    model, small, removal = case
    verify(model, small, removal)
    verify(model, small, removal, analysis=analyze(model), seed=3)


def shifted(array):
    return array + np.float32(0.5)


@pytest.mark.parametrize(
    ("node", "position", "change"),
    [
        ("Conv_0", 1, lambda w: w[::-1]),  # channels permuted in the producer alone
        ("Conv_2", 1, lambda w: np.roll(w, 1, axis=1)),  # and in the consumer alone
        ("Conv_2", 2, np.zeros_like),  # bias lost
        ("BatchNormalization_3", 3, lambda mean: mean[::-1]),
        ("Gemm_7", 1, shifted),
    ],
)
def test_a_wrong_weight_is_caught(case, node, position, change):
    message = refused(case, changed(case[1], node, position, change))
    output = case[0].graph.output[0].name
    found = re.fullmatch(r"output '(\w+)' differs by up to (\S+) \(largest value (\S+)\) from the original .*", message)
    assert found, message
    assert found[1] == output
    assert float(found[2]) > 0
    assert float(found[3]) > 0


def test_the_difference_in_the_message_is_the_largest(case):
    wrong = changed(case[1], "Gemm_7", 2, lambda bias: bias + np.float32([0, 0, -7, 2, 0]))
    assert float(re.search(r"differs by up to (\S+)", refused(case, wrong))[1]) == pytest.approx(7, rel=1e-2)


def test_a_missing_bias_is_caught(case):
    wrong = onnx.ModelProto()
    wrong.CopyFrom(case[1])
    del wrong.graph.node[0].input[2]
    assert "differs by" in refused(case, wrong)


def test_the_wrong_channels_are_caught(case):
    model, _, removal = case
    assert "differs by" in refused(case, slim(model, {**removal, "Conv_0": [2, 4]}))


def test_zeroing_producers_is_not_the_oracle(net):
    """Sigmoid makes a half of nothing: only what is no longer read must not matter."""
    n = net()
    model = load(n.model(n.head(n.conv(n.op("Sigmoid", n.conv("x", 8)), 6))))
    removal = {"Conv_0": [3]}
    verify(model, slim(model, removal), removal)
    reference = zeroed(model, removal, analyze(model))
    weights = {t.name: numpy_helper.to_array(t) for t in reference.graph.initializer}
    first, second = (node for node in model.graph.node if node.op_type == "Conv")
    assert weights[first.input[1]][3].all()
    assert not weights[second.input[1]][:, 3].any()
    assert weights[second.input[1]][:, 2].all()


def test_a_graph_that_does_not_run_is_caught(case):
    wrong = changed(case[1], "Conv_2", 1, lambda w: w[:, 1:])
    assert "onnxruntime cannot run the slim model" in refused(case, wrong)


def test_a_missing_output_is_named(case):
    wrong = onnx.ModelProto()
    wrong.CopyFrom(case[1])
    wrong.graph.node[-1].output[0] = wrong.graph.output[0].name = "other"
    assert repr(case[0].graph.output[0].name) in refused(case, wrong)
    assert "missing" in refused(case, wrong)


def test_what_a_final_softmax_hides_is_caught(net):
    """Logits that all grow by the same amount give the same probabilities."""
    n = net()
    model = load(n.model(n.op("Softmax", n.head(n.relu(n.conv("x", 8))), axis=-1)))
    removal = {"Conv_0": [5]}
    wrong = changed(slim(model, removal), "Gemm_4", 2, lambda bias: bias + 3)
    with pytest.raises(VerificationError, match="output 't4_0' differs by up to 3"):
        verify(model, wrong, removal)


def test_rounding_far_out_in_a_sigmoid_is_no_difference(net):
    """Its values were rounded as parts of one; what it reads is compared anyway."""
    n = net()
    low = n.constant(np.full(5, -15, np.float32))
    model = load(n.model(n.op("Sigmoid", n.op("Add", n.op("Tanh", n.head(n.conv("x", 8))), low))))
    removal = {"Conv_0": [5]}
    small = slim(model, removal)
    nudged = changed(small, "Add_5", 1, lambda bias: bias + np.float32(0.01))
    verify(model, nudged, removal)
    with pytest.raises(VerificationError, match="output 't5_0' differs"):
        verify(model, changed(small, "Add_5", 1, lambda bias: bias + np.float32(0.05)), removal)


def test_values_that_are_not_finite_are_caught(case):
    wrong = changed(case[1], "Gemm_7", 2, lambda bias: np.full_like(bias, np.nan))
    assert "not finite" in refused(case, wrong)


def test_an_original_of_nan_alone_proves_nothing(case):
    model, small, removal = case

    def spoil(array):
        return np.full_like(array, np.nan)

    node = next(node.name for node in model.graph.node if node.op_type == "Conv")
    with pytest.raises(ModelError, match="not finite"):
        verify(changed(model, node, 1, spoil), changed(small, node, 1, spoil), removal)


def test_finite_values_count_where_others_are_not(net):
    """A mask of -inf must not hide the rest."""
    n = net()
    mask = n.constant(np.float32([0, -np.inf, 0, 0, 0]))
    model = load(n.model(n.op("Add", n.head(n.relu(n.conv("x", 8))), mask)))
    removal = {"Conv_0": [5]}
    small = slim(model, removal)
    verify(model, small, removal)
    with pytest.raises(VerificationError, match="differs"):
        verify(model, changed(small, "Gemm_4", 2, lambda bias: bias * 2), removal)
    with pytest.raises(VerificationError, match="not finite"):
        verify(model, changed(small, "Gemm_4", 2, lambda bias: bias * np.float32(np.inf)), removal)


def test_a_removal_that_is_not_exact_must_keep_names_shapes_and_types(net):
    n = net((2, 4, 16))
    x = n.op("LayerNormalization", n.op("MatMul", "x", n.weight(16, 12)), n.weight(12), axis=-1)
    model = load(n.model(n.op("MatMul", x, n.weight(12, 5))))
    (group,) = analyze(model).groups
    assert not group.exact
    removal = {group.name: [0, 5]}
    small = slim(model, removal)
    verify(model, small, removal)
    verify(model, changed(small, "MatMul_2", 1, shifted), removal)  # nothing says what the values should be
    with pytest.raises(VerificationError, match=r"is float32\[2, 4, 4\], the original's is float32\[2, 4, 5\]"):
        verify(model, changed(small, "MatMul_2", 1, lambda w: w[:, 1:]), removal)
    with pytest.raises(VerificationError, match="not finite"):
        verify(model, changed(small, "MatMul_2", 1, lambda w: w * np.float32(np.nan)), removal)


def test_sequences_and_maps_are_compared_item_by_item(net):
    n = net()
    x = n.conv("x", 8)
    logits = n.head(x)
    pair = n.op("SequenceConstruct", logits, n.op("Neg", logits))
    value = onnx.helper.make_tensor_sequence_value_info(pair, onnx.TensorProto.FLOAT, (2, 5))
    model = load(n.model(value))
    removal = {"Conv_0": [5]}
    small = slim(model, removal)
    verify(model, small, removal)
    with pytest.raises(VerificationError, match=rf"output '{pair}\[0\]' differs"):
        verify(model, changed(small, "Gemm_3", 2, lambda bias: bias * 2), removal)


def test_an_original_that_does_not_run_is_the_models_fault(case, net):
    n = net()
    strange = n.op("Strange", n.relu(n.conv("x", 4)), domain="my.ops")
    model = n.model(onnx.helper.make_tensor_value_info(strange, onnx.TensorProto.FLOAT, (2, 4, 8, 8)))
    with pytest.raises(ModelError, match="onnxruntime cannot run the model"):
        verify(model, model, {})


def test_inputs_fit_the_model(net):
    n = net(("n", 3, 8, "w"))
    n.inputs += [
        onnx.helper.make_tensor_value_info("index", onnx.TensorProto.INT64, (4,)),
        onnx.helper.make_tensor_value_info("scalar", onnx.TensorProto.DOUBLE, ()),
        onnx.helper.make_tensor_value_info("nothing", onnx.TensorProto.FLOAT, (0, 2)),
    ]
    inputs = example_inputs(n.model(n.relu("x")), free=3)
    assert {name: (array.dtype.name, array.shape) for name, array in inputs.items()} == {
        "x": ("float32", (3, 3, 8, 3)),
        "index": ("int64", (4,)),
        "scalar": ("float64", ()),
        "nothing": ("float32", (0, 2)),
    }
    assert set(inputs["index"].tolist()) <= {0, 1}
    other = example_inputs(n.model(n.relu("x")), free=3, seed=1)
    assert not np.array_equal(inputs["x"], other["x"])


def test_an_input_that_is_no_tensor_has_to_be_given(net):
    n = net()
    n.inputs.append(onnx.helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, (2, 3, 8, 8)))
    x = n.op("SequenceAt", "s", n.constant(np.int64(0)), channels=3)
    model = load(n.model(n.head(n.conv(n.op("Add", "x", x), 4))))
    removal = {"Conv_2": [1]}
    small = slim(model, removal)
    with pytest.raises(ModelError, match="input 's' is not a tensor"):
        verify(model, small, removal)
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    verify(model, small, removal, inputs={"x": image, "s": [image]})
