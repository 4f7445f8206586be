"""A user's rule for an operator of their own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from ortrim.graph import analyze, load, rule, slim
from ortrim.graph.rules import names, registry


@pytest.fixture(autouse=True)
def _clean_registry(monkeypatch):
    """Rules registered in a test go when it ends."""
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))


@pytest.fixture
def snake_net(net):
    """Conv -> my.ops::Snake(slope per channel) -> Conv -> classifier; the file tells the custom operator's shape."""
    n = net()
    x = n.op("Snake", n.conv("x", 8), n.weight(8), domain="my.ops")
    out = n.head(n.conv(x, 6))
    model = n.model(onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, (2, 5)))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, (2, 8, 8, 8)))
    return load(model)


def test_without_a_rule_the_operator_freezes_and_says_so(snake_net):
    analysis = analyze(snake_net)
    assert [group.size for group in analysis.groups] == [6]
    frozen = {item.layer: item.reason for item in analysis.frozen}
    assert "Snake 'Snake_1' has no pruning rule" in frozen["Conv_0"]


def test_a_rule_of_a_few_lines_lets_groups_through(snake_net):
    @rule("Snake", domain="my.ops")
    def snake(walk, node):
        labels = walk.labels(node.input[0])
        walk.follow(node, node.input[1], 0, labels.ravel())
        walk.write(node.output[0], labels)

    assert "my.ops::Snake" in set(names())
    analysis = analyze(snake_net)
    assert [group.size for group in analysis.groups] == [8, 6]
    assert analysis.groups[0].exact
    slope = next(node for node in snake_net.graph.node if node.op_type == "Snake").input[1]
    assert slope in {item.tensor for item in analysis.groups[0].slices([2])}
    small = slim(snake_net, {"Conv_0": [0, 7], "Conv_2": [1]}, analysis=analysis)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in small.graph.initializer}
    first, _, second, *_ = small.graph.node
    assert shapes[slope] == (6,)
    assert shapes[first.input[1]] == (6, 3, 3, 3)
    assert shapes[second.input[1]] == (5, 6, 3, 3)


def test_a_fix_mends_what_only_the_rule_knows(snake_net):
    seen = []

    def fix(edit, node):
        seen.append(edit.kept(node.input[0], 1).tolist())
        edit.set_attribute(node, "channels", edit.count(node.output[0], 1))

    @rule("Snake", domain="my.ops", fix=fix)
    def snake(walk, node):
        walk.follow_elementwise(node, node.input[1], walk.labels(node.input[0]).ravel())
        walk.write(node.output[0], walk.labels(node.input[0]))

    small = slim(snake_net, {"Conv_0": [0, 3]})
    assert seen == [[1, 2, 4, 5, 6, 7]]
    node = next(node for node in small.graph.node if node.op_type == "Snake")
    assert onnx.helper.get_node_attr_value(node, "channels") == 6
    assert not next(node for node in snake_net.graph.node if node.op_type == "Snake").attribute


def test_a_branch_through_an_operator_of_ones_own_is_not_removed_whole(net):
    """Its value on a constant is not known here."""

    @rule("Relu", domain="my.ops")
    def relu(walk, node):
        walk.write(node.output[0], walk.labels(node.input[0]))

    n = net()
    stream = n.relu(n.conv("x", 8))
    inner = n.op("Relu", n.conv(n.relu(n.conv(stream, 6)), 8), domain="my.ops")
    out = n.head(n.op("Add", inner, stream))
    model = n.model(onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, (2, 5)))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, (2, 8, 8, 8)))
    analysis = analyze(model)
    assert [group.size for group in analysis.groups] == [8, 6]
    assert not any(group.removable for group in analysis.groups)


def test_a_users_rule_replaces_ours(net, oracle):
    """Here: keep whatever goes through a Sigmoid."""

    @rule("Sigmoid")
    def sigmoid(walk, node):
        labels = walk.labels(node.input[0])
        walk.freeze(labels, "sigmoids are left alone")
        walk.write(node.output[0], labels)

    n = net()
    analysis = oracle(n.model(n.head(n.relu(n.conv(n.op("Sigmoid", n.conv("x", 8)), 6)))))
    assert [group.size for group in analysis.groups] == [6]
    assert any(item.reason == "sigmoids are left alone" for item in analysis.frozen)


def test_an_operator_that_makes_channels(net):
    """`fresh`, `produce` and `consume`: a linear layer under another name."""

    @rule("Dense", domain="my.ops")
    def dense(walk, node):
        outputs, inputs = walk.shape(node.input[1])
        walk.consume(node, node.input[1], 1, np.broadcast_to(walk.labels(node.input[0]).ravel(), (inputs,)))
        made = walk.fresh(outputs)
        walk.produce(node, node.input[1], 0, made)
        walk.write(node.output[0], made.reshape(1, -1))

    n = net((2, 7))
    first = n.op("Dense", "x", n.weight(6, 7), domain="my.ops")
    second = n.op("Dense", first, n.weight(4, 6), domain="my.ops")
    model = n.model(onnx.helper.make_tensor_value_info(second, onnx.TensorProto.FLOAT, (2, 4)))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(first, onnx.TensorProto.FLOAT, (2, 6)))
    analysis = analyze(model)
    (group,) = analysis.groups
    assert (group.size, group.producers, group.consumers) == (6, ("Dense_0",), ("Dense_1",))
    assert [tuple(tensor.dims) for tensor in slim(model, {group.name: [0]}).graph.initializer] == [(5, 7), (4, 5)]
