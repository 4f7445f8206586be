"""LSTM, GRU and RNN: the hidden size shrinks in every gate, in both directions and in the states."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ortrim.graph import analyze, load, slim

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = ("forward", "reverse", "bidirectional")
HIDDEN = 6


def layer(
    n, op, x, inputs, *, hidden=HIDDEN, direction="forward", bias=True, lengths="", states=(), peepholes="", **more
):
    """Y, Y_h and, of an LSTM, Y_c; weights are small, or gates would saturate and hide mistakes."""
    gates, directions = GATES[op], 2 if direction == "bidirectional" else 1
    w, r = (n.weight(directions, gates * hidden, size, low=0.1, high=0.5) for size in (inputs, hidden))
    b = n.weight(directions, 2 * gates * hidden, low=0.1, high=0.5) if bias else ""
    operands = [w, r, b, lengths, *(*states, "", "")[:2], peepholes]
    while not operands[-1]:
        operands.pop()
    outputs = 3 if op == "LSTM" else 2
    return n.op(op, x, *operands, outputs=outputs, hidden_size=hidden, direction=direction, **more)


def side_by_side(n, y):
    """(time, directions, batch, hidden) -> (time, batch, directions * hidden), as PyTorch exports it."""
    return n.op("Reshape", n.op("Transpose", y, perm=[0, 2, 1, 3]), n.integers(0, 0, -1))


def model_with_head(n, op, x, inputs, *, direction="forward", **more):
    """One layer, and a matrix product that reads all that it puts out."""
    y = side_by_side(n, layer(n, op, x, inputs, direction=direction, **more)[0])
    return n.model(n.op("MatMul", y, n.weight(HIDDEN * (2 if direction == "bidirectional" else 1), 3)))


def sizes(analysis):
    return sorted(group.size for group in analysis.groups)


def reasons(analysis):
    return {item.layer: item.reason for item in analysis.frozen}


def node_of(model, kind):
    return next(node for node in model.graph.node if node.op_type == kind)


def weights_of(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


# -- units ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", GATES)
def test_the_hidden_units_are_one_exact_group(net, oracle, removed, op, direction):
    model = load(model_with_head(net((3, 2, 5)), op, "x", 5, direction=direction))
    analysis = oracle(model)
    (group,) = analysis.groups
    assert (group.size, group.exact, group.removable) == (HIDDEN, True, False)
    _, w, r, b = node_of(model, op).input
    matrix = node_of(model, "MatMul").input[1]
    assert {(slot.tensor, slot.axis, slot.role.value) for slot in group.slots} == {
        *((name, 1, "producer") for name in (w, r, b)),
        *((name, axis, "consumer") for name, axis in ((r, 2), (matrix, 0))),
    }
    small = removed(model, analysis, {group.name: range(1, HIDDEN)})
    assert onnx.helper.get_node_attr_value(node_of(small, op), "hidden_size") == 1


@pytest.mark.parametrize("op", GATES)
def test_units_go_from_every_gate_of_both_directions(net, op):
    model = load(model_with_head(net((3, 2, 5)), op, "x", 5, direction="bidirectional"))
    (group,) = analyze(model).groups
    small = slim(model, {group.name: [1, 4]})
    before, after = weights_of(model), weights_of(small)
    _, w, r, b = node_of(model, op).input
    gone = [gate * HIDDEN + unit for gate in range(2 * GATES[op]) for unit in (1, 4)]
    rows = [row for row in gone if row < GATES[op] * HIDDEN]
    np.testing.assert_array_equal(after[w], np.delete(before[w], rows, 1))
    np.testing.assert_array_equal(after[r], np.delete(np.delete(before[r], rows, 1), [1, 4], 2))
    np.testing.assert_array_equal(after[b], np.delete(before[b], gone, 1))
    assert onnx.helper.get_node_attr_value(node_of(small, op), "hidden_size") == 4


def test_a_hidden_size_of_one_stays(net, oracle):
    n = net((3, 2, 5))
    y = side_by_side(n, layer(n, "GRU", "x", 5, hidden=1)[0])
    analysis = oracle(n.model(n.op("MatMul", y, n.weight(1, 3))))
    assert sizes(analysis) == []
    assert "hidden size of 1" in reasons(analysis)["GRU_0"]


# -- operands ---------------------------------------------------------------------------------------------------------
FORMS = {
    "without a bias": ("GRU", lambda n: {"bias": False}),
    "peepholes": ("LSTM", lambda n: {"peepholes": n.weight(2, 3 * HIDDEN)}),
    "lengths": ("LSTM", lambda n: {"lengths": n.constant(np.int32([2, 3]))}),
    "constant states": ("LSTM", lambda n: {"states": (n.weight(2, 2, HIDDEN), n.weight(2, 2, HIDDEN))}),
    "one state": ("RNN", lambda n: {"states": (n.weight(2, 2, HIDDEN),)}),
    "reset after": ("GRU", lambda n: {"linear_before_reset": 1}),
    "clipped": ("LSTM", lambda n: {"clip": 0.7}),
    "activations": ("RNN", lambda n: {"activations": ["Relu", "Sigmoid"]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form(net, oracle, form):
    op, more = FORMS[form]
    n = net((3, 2, 5))
    analysis = oracle(model_with_head(n, op, "x", 5, direction="bidirectional", **more(n)))
    assert [(group.size, group.exact) for group in analysis.groups] == [(HIDDEN, True)]


def test_both_states_are_one_constant(net, oracle):
    """`load` gives each its own copy."""
    n = net((3, 2, 5))
    state = n.weight(1, 2, HIDDEN)
    assert sizes(oracle(model_with_head(n, "LSTM", "x", 5, states=(state, state)))) == [HIDDEN]


def test_a_weight_computed_at_run_time(net, oracle):
    n = net((3, 2, 5))
    scale = n.op("ReduceMax", "x", keepdims=0)
    w = n.op("Mul", n.weight(1, 4 * HIDDEN, 5), scale)
    y = n.op("LSTM", "x", w, n.weight(1, 4 * HIDDEN, HIDDEN), hidden_size=HIDDEN)
    analysis = oracle(n.model(n.op("MatMul", y, n.weight(HIDDEN, 3))))
    assert sizes(analysis) == []
    assert "computed at run time" in reasons(analysis)["LSTM_2"]


@pytest.mark.parametrize("kept", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2)])
def test_outputs_that_are_left_out(net, oracle, kept):
    n = net((3, 2, 5))
    outputs = layer(n, "LSTM", "x", 5)
    results = [n.op("MatMul", outputs[place], n.weight(HIDDEN, 3)) for place in kept]
    recurrent = n.nodes[0]
    recurrent.output[:] = [name if place in kept else "" for place, name in enumerate(outputs)]
    assert sizes(oracle(n.model(*results))) == [HIDDEN]


def test_batch_first(net):
    """onnxruntime's CPU does not run it: the graph must fit together."""
    n = net((2, 3, 5))
    y, state, _ = layer(n, "LSTM", "x", 5, direction="bidirectional", layout=1, states=(n.weight(2, 2, HIDDEN),) * 2)
    flat = n.op("Reshape", y, n.integers(0, 0, -1))
    last = n.op("MatMul", n.op("Reshape", state, n.integers(0, -1)), n.weight(2 * HIDDEN, 3))
    model = load(n.model(n.op("MatMul", flat, n.weight(2 * HIDDEN, 3)), last))
    (group,) = analyze(model).groups
    assert (group.size, group.exact) == (HIDDEN, True)
    small = slim(model, {group.name: [0, 5]})
    onnx.checker.check_model(small, full_check=True)
    known = {value.name: value for value in small.graph.value_info}
    assert [dim.dim_value for dim in known[y].type.tensor_type.shape.dim] == [2, 3, 2, HIDDEN - 2]


# -- states -----------------------------------------------------------------------------------------------------------
def test_states_that_are_graph_inputs_keep_the_hidden_size(net, oracle):
    n = net((3, 2, 5))
    n.inputs.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, (1, 2, HIDDEN)))
    analysis = oracle(model_with_head(n, "GRU", "x", 5, states=("h",)))
    assert sizes(analysis) == []
    assert reasons(analysis)["GRU_0"] == "is the graph input 'h'"


def test_states_that_are_graph_outputs_keep_the_hidden_size(net, oracle):
    n = net((3, 2, 5))
    cell = layer(n, "LSTM", "x", 5)[2]
    analysis = oracle(n.model(cell))
    assert sizes(analysis) == []
    assert reasons(analysis)["LSTM_0"] == f"makes the graph output {cell!r}"


def test_a_decoder_starts_from_the_state_of_its_encoder(net, oracle):
    """Their units are one; what makes a state from something else is among them too."""
    n = net((3, 2, 5))
    _, *states = layer(n, "LSTM", "x", 5)
    y = layer(n, "LSTM", "x", 5, states=states)[0]
    gru = layer(n, "GRU", "x", 5, hidden=4, states=[n.op("MatMul", states[0], n.weight(HIDDEN, 4))])[0]
    model = n.model(n.op("MatMul", y, n.weight(HIDDEN, 3)), n.op("MatMul", gru, n.weight(4, 3)))
    groups = {group.size: group for group in oracle(model).groups}
    assert set(groups) == {4, HIDDEN}
    assert groups[HIDDEN].producers == ("LSTM_0", "LSTM_1")
    assert groups[4].producers == ("MatMul_2", "GRU_3")


def zeros_for(n, value=0.0):
    """A state as large as the batch: ConstantOfShape of a computed shape, and the part of one of two layers."""
    batch = n.op("Gather", n.op("Shape", "x"), n.integers(1), axis=0)
    shape = n.op("Concat", n.integers(2), batch, n.integers(HIDDEN), axis=0)
    both = n.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.float32([value])))
    return n.op("Slice", both, n.integers(0), n.integers(1), n.integers(0))


def test_zeros_computed_for_the_batch_go_when_units_do(net, oracle):
    n = net((3, "batch", 5))
    zeros = zeros_for(n)
    model = load(model_with_head(n, "LSTM", "x", 5, states=(zeros, zeros)))
    (group,) = oracle(model).groups
    assert group.size == HIDDEN
    assert list(node_of(slim(model, {}), "LSTM").input) == list(node_of(model, "LSTM").input)
    small = slim(model, {group.name: [2]})
    assert len(node_of(small, "LSTM").input) == 4
    assert "ConstantOfShape" not in {node.op_type for node in small.graph.node}


def test_other_numbers_computed_for_the_batch_stay(net, oracle):
    n = net((3, "batch", 5))
    state = zeros_for(n, 0.5)
    analysis = oracle(model_with_head(n, "LSTM", "x", 5, states=(state, state)))
    assert sizes(analysis) == []
    assert "ConstantOfShape" in reasons(analysis)["LSTM_5"]


# -- among other layers -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", GATES)
def test_stacked_layers(net, oracle, op):
    n = net((3, 2, 5))
    lower = side_by_side(n, layer(n, op, "x", 5, direction="bidirectional")[0])
    upper = side_by_side(n, layer(n, op, lower, 2 * HIDDEN, hidden=4, direction="bidirectional")[0])
    first, second = oracle(n.model(n.op("MatMul", upper, n.weight(8, 3)))).groups
    assert [(group.size, group.exact) for group in (first, second)] == [(HIDDEN, True), (4, True)]
    assert first.consumers == (n.nodes[0].name, n.nodes[3].name)
    read = next(part for part in first.slices([1, 4]) if part.tensor == n.nodes[3].input[1])
    assert (read.axis, read.indices) == (2, (1, 4, HIDDEN + 1, HIDDEN + 4))


def test_a_residual_stream_of_layers(net, oracle):
    """A layer reads the channels that it makes: one group in all."""
    n = net((3, 2, 5))
    x = n.op("MatMul", "x", n.weight(5, HIDDEN))
    for _ in range(2):
        x = n.op("Add", x, side_by_side(n, layer(n, "GRU", x, HIDDEN)[0]))
    (group,) = oracle(n.model(n.op("MatMul", x, n.weight(HIDDEN, 3)))).groups
    assert (group.size, group.exact) == (HIDDEN, True)


def test_a_convolution_in_front(net, oracle):
    """Columns of the feature maps are the steps, as in text recognition: a channel is several inputs."""
    n = net((2, 3, 8, 8))
    maps = n.op("Transpose", n.relu(n.conv("x", 4, stride=2)), perm=[3, 0, 1, 2])
    steps = n.op("Reshape", maps, n.integers(0, 0, -1))
    analysis = oracle(model_with_head(n, "LSTM", steps, 16, direction="bidirectional"))
    assert [(group.size, group.exact) for group in analysis.groups] == [(4, True), (HIDDEN, True)]
    assert analysis.groups[0].consumers == ("LSTM_4",)


def test_channels_on_the_axis_of_the_batch_stay(net, oracle):
    n = net((2, 3, 5))
    x = n.op("Conv", "x", n.weight(4, 3, 1))
    analysis = oracle(model_with_head(n, "RNN", x, 5))
    assert sizes(analysis) == [HIDDEN]
    assert "runs over an axis that carries channels" in reasons(analysis)["Conv_0"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", GATES)
def test_exported_by_pytorch(oracle, kind, last):
    """With a batch that is not known: the exporter computes the shape of the initial states."""
    torch = pytest.importorskip("torch")

    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = getattr(torch.nn, kind)(5, HIDDEN, num_layers=2, bidirectional=True, batch_first=True)
            self.classifier = torch.nn.Linear(2 * HIDDEN, 3)

        def forward(self, x):
            y, _ = self.recurrent(x)
            return self.classifier(y[:, -1] if last else y)

    torch.manual_seed(0)
    file = io.BytesIO()
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    torch.onnx.export(
        Tagger().eval(),
        torch.randn(2, 4, 5),
        file,
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes=axes,
    )
    analysis = oracle(onnx.load_from_string(file.getvalue()))
    assert [(group.size, group.exact) for group in analysis.groups] == [(HIDDEN, True)] * 2
