"""Graphs that a hostile reviewer would try: odd inputs and outputs, subgraphs, quantization, recurrent cells.

Each is pruned right, or frozen with a reason; none is damaged.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ortrim.errors import PlanError
from ortrim.graph import analyze, load, slim, verify

FLOAT = TensorProto.FLOAT


def sizes(analysis):
    return sorted(group.size for group in analysis.groups)


def reasons(analysis):
    return " | ".join(f"{item.layer}: {item.reason}" for item in analysis.frozen)


# -- inputs and outputs -----------------------------------------------------------------------------------------------
def test_an_output_that_other_nodes_read_too(net, oracle):
    n = net()
    inner = n.relu(n.conv("x", 6))
    analysis = oracle(n.model(inner, n.head(n.conv(inner, 4))))
    assert sizes(analysis) == [4]
    assert "graph output" in reasons(analysis)


def test_one_tensor_given_out_twice(net, oracle):
    n = net()
    value = helper.make_tensor_value_info(n.head(n.conv("x", 4)), FLOAT, (2, 5))
    assert sizes(oracle(n.model(value, value))) == [4]


def test_an_input_passed_straight_to_an_output(net, oracle):
    n = net()
    straight = helper.make_tensor_value_info("x", FLOAT, (2, 3, 8, 8))
    analysis = oracle(n.model(n.head(n.conv("x", 4)), straight))
    assert sizes(analysis) == [4]


def test_a_weight_that_is_an_output_stays_whole(net, oracle):
    n = net()
    weight = n.weight(6, 3, 3, 3)
    x = n.op("Conv", "x", weight, channels=6)
    model = n.model(n.head(n.conv(x, 4)), helper.make_tensor_value_info(weight, FLOAT, (6, 3, 3, 3)))
    assert sizes(oracle(model)) == [4, 6]
    small = slim(model, {"Conv_0": [0]})
    assert next(t for t in small.graph.initializer if t.name == weight).dims[0] == 6


def test_a_constant_node_that_is_an_output(net, oracle):
    n = net()
    n.nodes.append(helper.make_node("Constant", [], ["one"], "one", value_float=1.0))
    assert sizes(oracle(n.model(n.head(n.conv("x", 4)), helper.make_tensor_value_info("one", FLOAT, ())))) == [4]


def test_a_size_that_is_an_output(net, oracle):
    """The number of channels is an answer of this graph."""
    n = net(("batch", 3, "height", 8))
    x = n.conv("x", 8)
    shape = n.op("Shape", x)
    batch = n.op("Gather", shape, n.constant(np.int64(0)))
    analysis = oracle(n.model(n.head(n.conv(x, 6)), shape, batch))
    assert sizes(analysis) == [6]
    assert "reads the number of channels" in reasons(analysis)


def test_scalar_inputs(net, oracle):
    n = net()
    n.inputs.append(helper.make_tensor_value_info("s", FLOAT, ()))
    x = n.op("Mul", "s", n.op("Add", n.conv("x", 6), "s"), channels=6)
    assert sizes(oracle(n.model(n.head(n.conv(x, 4))))) == [4, 6]


def test_a_batch_of_none(net, oracle):
    n = net((0, 3, 8, 8))
    analysis = oracle(n.model(n.head(n.conv(n.conv("x", 6), 4))))
    assert sizes(analysis) == []
    assert "has no entries" in reasons(analysis)


@pytest.mark.parametrize("axis", [1, 2])
def test_empty_pieces(net, oracle, axis):
    n = net()
    x = n.conv("x", 6)
    nothing = n.op("Slice", x, n.integers(3), n.integers(3), n.integers(axis))
    joined = n.op("Concat", x, nothing, axis=axis, channels=6)
    oracle(n.model(n.head(n.conv(joined, 4))))


def test_a_graph_without_weights(net):
    n = net()
    analysis = analyze(n.model(n.relu("x")))
    assert analysis.groups == ()
    model = load(n.model(n.relu("x")))
    assert slim(model, {}).SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_units_that_do_not_exist(net):
    n = net()
    model = load(n.model(n.head(n.conv("x", 4))))
    for removal in ({"Conv_0": [4]}, {"Conv_0": [-1]}, {"Conv_0": range(4)}, {"nobody": [0]}, {"Conv_0": [1.5]}):
        with pytest.raises(PlanError):
            slim(model, removal)


# -- subgraphs --------------------------------------------------------------------------------------------------------
def condition(n):
    return n.op("Greater", n.op("ReduceMax", "x", keepdims=0), n.constant(np.float32(0)))


def body(name, *nodes, inputs=()):
    return helper.make_graph(list(nodes), name, list(inputs), [helper.make_tensor_value_info("inner", FLOAT, None)])


def test_if_freezes_what_it_captures_at_any_depth(net, oracle):
    n = net()
    x, free = n.relu(n.conv("x", 8)), n.relu(n.conv("x", 6))
    deep = body("deep", helper.make_node("Neg", [x], ["inner"]))
    test = helper.make_node("Constant", [], ["test"], value=helper.make_tensor("", TensorProto.BOOL, [], [True]))
    nested = helper.make_node("If", ["test"], ["inner"], then_branch=deep, else_branch=deep)
    outer = body("outer", test, nested)
    picked = n.op("If", condition(n), then_branch=outer, else_branch=outer)
    analysis = oracle(n.model(helper.make_tensor_value_info(picked, FLOAT, (2, 8, 8, 8)), n.head(n.conv(free, 4))))
    assert sizes(analysis) == [4, 6]
    assert "If" in reasons(analysis)


def test_loop_freezes_what_it_captures(net, oracle):
    n = net()
    x = n.relu(n.conv("x", 8))
    step = helper.make_tensor_value_info("i", TensorProto.INT64, ())
    go, on = (helper.make_tensor_value_info(name, TensorProto.BOOL, ()) for name in ("go", "on"))
    total, after = (helper.make_tensor_value_info(name, FLOAT, (2, 8, 8, 8)) for name in ("sum", "next"))
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["sum", x], ["next"])]
    loop = helper.make_graph(nodes, "loop", [step, go, total], [on, after])
    summed = n.op("Loop", n.constant(np.int64(3)), "", n.relu(n.conv("x", 8)), body=loop)
    value = helper.make_tensor_value_info(summed, FLOAT, (2, 8, 8, 8))
    analysis = oracle(n.model(value, n.head(n.conv("x", 6))))
    assert sizes(analysis) == [6]
    assert {item.layer for item in analysis.frozen if "Loop" in item.reason} == {"Conv_0", "Conv_2", "Loop_4"}


def test_a_block_whose_sum_an_if_captures(net, oracle):
    """The branch may go; the sum must keep its name."""
    n = net()
    stream = n.relu(n.conv("x", 8))
    total = n.op("Add", n.conv(n.relu(n.conv(stream, 6)), 8, bias=False), stream)
    inside = body("inside", helper.make_node("Identity", [total], ["inner"]))
    picked = n.op("If", condition(n), then_branch=inside, else_branch=inside)
    value = helper.make_tensor_value_info(picked, FLOAT, (2, 8, 8, 8))
    analysis = oracle(n.model(value, n.head(n.conv(total, 4))))
    assert {group.size: group.removable for group in analysis.groups} == {6: True, 4: False}


def test_a_branch_that_an_if_captures_is_not_removable(net, oracle):
    n = net()
    stream = n.relu(n.conv("x", 8))
    branch = n.conv(n.relu(n.conv(stream, 6)), 8)
    inside = body("inside", helper.make_node("Identity", [branch], ["inner"]))
    picked = n.op("If", condition(n), then_branch=inside, else_branch=inside)
    value = helper.make_tensor_value_info(picked, FLOAT, (2, 8, 8, 8))
    analysis = oracle(n.model(value, n.head(n.conv(n.op("Add", branch, stream), 4))))
    assert not any(group.removable for group in analysis.groups)


def test_a_weight_that_a_subgraph_reads_too(net, oracle):
    n = net()
    weight = n.weight(6, 3, 3, 3)
    x = n.op("Conv", "x", weight, channels=6)
    inside = body("inside", helper.make_node("Identity", [weight], ["inner"]))
    picked = n.op("If", condition(n), then_branch=inside, else_branch=inside)
    value = helper.make_tensor_value_info(picked, FLOAT, (6, 3, 3, 3))
    assert sizes(oracle(n.model(value, n.head(n.conv(x, 4))))) == [4, 6]


# -- operators without a rule -----------------------------------------------------------------------------------------
def test_an_einsum_with_a_weight_freezes(net, oracle):
    n = net((2, 6))
    x = n.op("Einsum", n.op("MatMul", "x", n.weight(6, 8)), n.weight(8, 5), equation="ij,jk->ik")
    analysis = oracle(n.model(n.op("MatMul", n.op("MatMul", x, n.weight(5, 4)), n.weight(4, 3))))
    assert sizes(analysis) == [4]
    assert "Einsum_1: Einsum" in reasons(analysis)


def test_sparse_weights_freeze(net):
    n = net((2, 6))
    out = n.op("MatMul", n.op("MatMul", "x", n.weight(6, 8)), "sparse")
    model = n.model(helper.make_tensor_value_info(out, FLOAT, (2, 4)))
    values, places = helper.make_tensor("sparse", FLOAT, [2], [1.0, 2.0]), np.array([0, 9])
    places = helper.make_tensor("sparse_places", TensorProto.INT64, [2], places)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [8, 4]))
    analysis = analyze(model)
    assert sizes(analysis) == []
    assert len(load(model).graph.sparse_initializer) == 1


# -- quantization -----------------------------------------------------------------------------------------------------
def quantized(n, *shape):
    return n.constant(n.rng.integers(-90, 90, shape).astype(np.int8))


@pytest.mark.parametrize("zero_point", [-3, 0, None])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_a_quantized_weight_is_a_weight(net, oracle, axis, zero_point):
    """Scales and zero points of one axis lose the entries that the axis loses; zero is what the zero point says."""
    n = net()
    size = () if axis is None else (6, 8)[axis]
    parameters = [n.constant(n.rng.uniform(0.01, 0.03, size).astype(np.float32))]
    if zero_point is not None:
        parameters.append(n.constant(np.full(size, zero_point, np.int8)))
    weight = n.op("DequantizeLinear", quantized(n, 6, 8, 3, 3), *parameters, axis=axis or 0)
    x = n.op("Conv", n.relu(n.conv("x", 8)), weight, n.weight(6), channels=6)
    analysis = oracle(n.model(n.head(n.conv(x, 4))))
    assert sizes(analysis) == [4, 6, 8]
    lost = {item.tensor for group in analysis.groups for item in group.slices([0]) if item.tensor in parameters}
    assert lost == (set() if axis is None else set(parameters))


def test_a_quantized_weight_of_two_layers(net, oracle):
    n = net()
    scale, zero = n.constant(np.full(8, 0.01, np.float32)), n.constant(np.full(8, 2, np.int8))
    weight = n.op("DequantizeLinear", quantized(n, 8, 8, 3, 3), scale, zero, axis=0)
    x = n.op("Conv", n.relu(n.conv("x", 8)), weight, channels=8)
    x = n.op("Conv", n.relu(x), weight, channels=8)
    assert sizes(oracle(n.model(n.head(x)))) == [8, 8, 8]


def test_weights_quantized_in_blocks_freeze(net, oracle):
    n = net(opset=21)
    scale = n.constant(np.full((3, 8, 3, 3), 0.01, np.float32))
    weight = n.op("DequantizeLinear", quantized(n, 6, 8, 3, 3), scale, axis=0, block_size=2)
    x = n.op("Conv", n.relu(n.conv("x", 8)), weight, n.weight(6), channels=6)
    analysis = oracle(n.model(n.head(n.conv(x, 4))))
    assert sizes(analysis) == [4]
    assert "the weight" in reasons(analysis)


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantized_activations_pass(net, oracle, per_channel):
    n = net()
    x = n.relu(n.conv("x", 8))
    shape = 8 if per_channel else ()
    scale = n.constant(n.rng.uniform(0.02, 0.06, shape).astype(np.float32))
    zero = n.constant(np.full(shape, 120, np.uint8))
    x = n.op("DequantizeLinear", n.op("QuantizeLinear", x, scale, zero, axis=1), scale, zero, axis=1)
    assert sizes(oracle(n.model(n.head(n.conv(x, 6))))) == [6, 8]


def test_activations_quantized_in_blocks_freeze(net, oracle):
    n = net(opset=21)
    x = n.relu(n.conv("x", 8))
    scale = n.constant(n.rng.uniform(0.02, 0.06, (2, 2, 8, 8)).astype(np.float32))
    zero = n.constant(np.full((2, 2, 8, 8), 120, np.uint8))
    x = n.op("QuantizeLinear", x, scale, zero, axis=1, block_size=4)
    x = n.op("DequantizeLinear", x, scale, zero, axis=1, block_size=4)
    analysis = oracle(n.model(n.head(n.conv(x, 6))))
    assert sizes(analysis) == [6]
    assert "blocks" in reasons(analysis)


@pytest.mark.parametrize(("axes", "left"), [([0, 1, 2, 3], [6, 8]), ([0, 2, 3], [6])])
def test_a_scale_computed_at_run_time(net, oracle, axes, left):
    """One for all channels is no concern of theirs; one for each cannot be cut."""
    n = net((2, 8, 8, 8))
    x = n.relu(n.conv("x", 8))
    scale = n.op("ReduceMean", n.op("Abs", "x"), axes=axes, keepdims=0)
    x = n.op("DequantizeLinear", n.op("QuantizeLinear", x, scale), scale, channels=8)
    assert sizes(oracle(n.model(n.head(n.conv(x, 6))))) == left


# -- constants of integers, which `load` does not copy -----------------------------------------------------------------
def test_integers_combined_with_channels_in_two_places(net, oracle):
    n = net()
    factors = n.constant(np.arange(1, 7).reshape(6, 1, 1))
    whole = (n.op("Mul", n.op("Cast", n.conv("x", 6), to=TensorProto.INT64), factors) for _ in range(2))
    a, b = (n.op("Cast", x, to=FLOAT) for x in whole)
    analysis = oracle(n.model(n.head(n.conv(a, 4)), n.head(n.conv(b, 3))))
    assert sizes(analysis) == [3, 4]
    assert "shares the constant" in reasons(analysis)


def test_group_normalization_as_an_operator(net, oracle):
    """onnx infers no shape through it, and has dropped the form before operator set 21."""
    n = net(opset=21)
    x = n.op("GroupNormalization", n.conv("x", 8), n.weight(8), n.weight(8), num_groups=2)
    out = n.head(n.conv(x, 6))
    model = load(n.model(helper.make_tensor_value_info(out, FLOAT, (2, 5))))
    analysis = oracle(model)
    assert [(group.size, group.exact) for group in analysis.groups] == [(4, False), (6, True)]
    removal = {group.name: [0] for group in analysis.groups}
    verify(model, slim(model, removal), removal)
    assert onnx.helper.get_node_attr_value(slim(model, removal).graph.node[1], "num_groups") == 2
