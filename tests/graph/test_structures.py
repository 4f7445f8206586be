"""The structures that people export, each against the oracle, with the groups that it must give."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from ortrim.graph import analyze, load, slim

from .conftest import sizes


def test_chain_prunes_every_inner_layer_and_freezes_the_output(net, oracle):
    n = net()
    analysis = oracle(n.model(n.head(n.relu(n.bn(n.conv(n.relu(n.conv("x", 8)), 6))))))
    assert sizes(analysis) == [6, 8]
    assert all(group.exact for group in analysis.groups)
    assert [f.layer for f in analysis.frozen] == [n.nodes[-1].name]
    assert "graph output" in analysis.frozen[0].reason


def test_roles_of_slices(net):
    n = net()
    first = n.conv("x", 8)
    model = load(n.model(n.head(n.bn(first))))
    group = analyze(model).groups[0]
    found = {(s.tensor, s.axis): (s.role.value, s.indices) for s in group.slices([1, 5])}
    conv, bn, gemm = (node for node in model.graph.node if node.op_type in ("Conv", "BatchNormalization", "Gemm"))
    assert found[conv.input[1], 0] == ("producer", (1, 5))
    assert found[conv.input[2], 0] == ("producer", (1, 5))
    assert all(found[name, 0] == ("follower", (1, 5)) for name in bn.input[1:])
    assert found[gemm.input[1], 1] == ("consumer", (1, 5))
    assert len(found) == 7


def test_residual_stream_is_one_group_and_blocks_are_removable(net, oracle):
    n = net()
    stream = n.relu(n.conv("x", 8))
    for _ in range(3):
        stream = n.relu(n.op("Add", n.conv(n.relu(n.conv(stream, 6)), 8), stream))
    analysis = oracle(n.model(n.head(stream)))
    assert sizes(analysis) == [6, 6, 6, 8]
    assert [g.removable for g in sorted(analysis.groups, key=lambda g: g.size)] == [True, True, True, False]


def test_removed_branch_leaves_its_constant_and_no_dead_nodes(net):
    n = net()
    stream = n.relu(n.conv("x", 8))
    out = n.relu(n.op("Add", n.conv(n.relu(n.conv(stream, 6)), 8), stream))
    model = load(n.model(n.head(out)))
    analysis = analyze(model)
    (branch,) = (g for g in analysis.groups if g.removable)
    small = slim(model, {branch.name: range(branch.size)}, analysis=analysis)
    assert [node.op_type for node in small.graph.node].count("Conv") == 1
    assert [node.op_type for node in small.graph.node].count("Add") == 1


def test_branch_without_bias_vanishes_with_its_addition(net):
    n = net()
    stream = n.relu(n.conv("x", 8))
    out = n.relu(n.op("Add", n.conv(n.relu(n.conv(stream, 6)), 8, bias=False), stream))
    model = load(n.model(n.head(out)))
    analysis = analyze(model)
    (branch,) = (g for g in analysis.groups if g.removable)
    small = slim(model, {branch.name: range(branch.size)}, analysis=analysis)
    assert [node.op_type for node in small.graph.node] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]


def test_two_branches_and_no_shortcut(net, oracle):
    """Either could go, but not both: nothing would say how large the image is."""
    n = net()
    x = n.relu(n.conv("x", 8))
    both = n.op("Add", n.conv(n.relu(n.conv(x, 6)), 8), n.conv(n.relu(n.conv(x, 5)), 8))
    analysis = oracle(n.model(n.head(n.conv(both, 4))))
    assert {g.size: g.removable for g in analysis.groups if g.size < 8} == {6: True, 5: False, 4: False}


def test_three_blocks_may_all_go(net, oracle):
    n = net()
    x = n.relu(n.conv("x", 8))
    for width in (4, 5, 6):
        x = n.relu(n.op("Add", x, n.conv(n.relu(n.conv(x, width)), 8, bias=False)))
    model = load(n.model(n.head(x)))
    oracle(model)
    small = slim(model, {g.name: range(g.size) for g in analyze(model).groups if g.removable})
    assert [node.op_type for node in small.graph.node] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]


def test_stream_that_grows_by_zero_padding(net, oracle):
    """The parameter-free shortcut: channels shift by the padding, they do not map one to one."""
    n = net()
    stream = n.relu(n.conv("x", 4))
    inner = n.conv(n.relu(n.conv(stream, 6, stride=2)), 8)
    shortcut = n.op("Slice", stream, n.integers(0, 0), n.integers(99, 99), n.integers(2, 3), n.integers(2, 2))
    padded = n.op("Pad", shortcut, n.integers(0, 2, 0, 0, 0, 2, 0, 0), channels=8)
    stream = n.relu(n.op("Add", inner, padded))
    analysis = oracle(n.model(n.head(n.conv(stream, 6))))
    assert sizes(analysis) == [4, 4, 6, 6]  # old channels, those that the padding adds, two interiors


def test_concat_split_and_reuse(net, oracle):
    n = net()
    a, b = n.relu(n.conv("x", 6)), n.relu(n.conv("x", 4))
    joined = n.op("Concat", a, b, a, axis=1, channels=16)
    left, right = n.op("Split", joined, n.integers(7, 9), outputs=2, axis=1)
    n.channels.update({left: 7, right: 9})
    out = n.op("Concat", n.conv(left, 3), n.conv(right, 3), axis=1, channels=6)
    analysis = oracle(n.model(n.head(out)))
    # The first channel of b is read where no other is: alone in its slots, it is no group (it could only go whole).
    assert sizes(analysis) == [3, 3, 3, 6]


def test_depthwise_with_multiplier_and_one_input_channel(net, oracle):
    n = net((2, 1, 8, 8))
    first = n.conv("x", 6)  # one input channel, one group: an ordinary convolution
    depthwise = n.conv(n.relu(first), 12, group=6)
    analysis = oracle(n.model(n.head(n.relu(depthwise))))
    assert sizes(analysis) == [6]


@pytest.mark.parametrize("group", [2, 4])
def test_grouped_convolution_loses_the_same_of_each_group(net, oracle, group):
    n = net()
    grouped = n.conv(n.relu(n.conv("x", 8)), 16, group=group)
    analysis = oracle(n.model(n.head(n.relu(grouped))))
    assert sizes(analysis) == sorted([8 // group, 16 // group])


@pytest.mark.parametrize("group", [1, 2, 8])
def test_transposed_convolution(net, oracle, group):
    n = net()
    x = n.relu(n.conv("x", 8))
    per_group = 1 if group == 8 else 6 // group
    weight, bias = n.weight(8, per_group, 2, 2), n.weight(per_group * group)
    up = n.op("ConvTranspose", x, weight, bias, channels=per_group * group, group=group, strides=[2, 2])
    analysis = oracle(n.model(n.head(n.conv(n.relu(up), 4))))
    assert sizes(analysis) == sorted({1: [8, 6, 4], 2: [4, 3, 4], 8: [8, 4]}[group])


def test_channel_shuffle(net, oracle):
    n = net()
    x = n.relu(n.conv("x", 8))
    split = n.op("Reshape", x, n.integers(2, 2, 4, 8, 8))
    back = n.op("Reshape", n.op("Transpose", split, perm=[0, 2, 1, 3, 4]), n.integers(2, 8, 8, 8), channels=8)
    analysis = oracle(n.model(n.head(n.conv(back, 6))))
    assert sizes(analysis) == [4, 6]


@pytest.mark.parametrize("steps", [1, 2, -1, -2])
def test_stepped_and_reversed_slices(net, oracle, steps):
    n = net()
    x = n.relu(n.conv("x", 10))
    bounds = (1, 9) if steps > 0 else (8, -100)
    count = len(range(10)[slice(bounds[0], bounds[1] if steps > 0 else None, steps)])
    cut = n.op("Slice", x, *(n.integers(v) for v in (*bounds, 1, steps)), channels=count)
    both = n.op("Concat", n.conv(cut, 3), n.conv(x, 3), axis=1, channels=6)
    oracle(n.model(n.head(both)), seeds=(0, 1, 2))


def test_squeeze_and_excitation(net, oracle):
    n = net()
    x = n.relu(n.conv("x", 8))
    gate = n.op("Sigmoid", n.conv(n.relu(n.conv(n.op("GlobalAveragePool", x), 4, k=1)), 8, k=1))
    analysis = oracle(n.model(n.head(n.op("Mul", x, gate))))
    assert sizes(analysis) == [4, 8]


def test_spatial_gate_does_not_couple_channels(net, oracle):
    n = net()
    x = n.relu(n.conv("x", 8))
    gate = n.op("Sigmoid", n.conv(x, 1))
    analysis = oracle(n.model(n.head(n.op("Mul", x, gate))))
    assert sizes(analysis) == [8]
    assert any("single output channel" in f.reason for f in analysis.frozen)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(net, oracle, mode):
    n = net()
    up = n.op("DepthToSpace", n.relu(n.conv("x", 16)), blocksize=2, mode=mode, channels=4)
    assert sizes(oracle(n.model(n.head(n.conv(up, 3))))) == [3, 4]


def test_pixel_shuffle_by_reshaping(net, oracle):
    n = net()
    x = n.op("Reshape", n.relu(n.conv("x", 12)), n.integers(2, 3, 2, 2, 8, 8))
    x = n.op("Transpose", x, perm=[0, 1, 4, 2, 5, 3])
    x = n.op("Reshape", x, n.integers(2, 3, 16, 16), channels=3)
    assert sizes(oracle(n.model(n.head(n.conv(x, 5))))) == [3, 5]


def test_flatten_before_a_classifier(net, oracle):
    n = net()
    flat = n.op("Reshape", n.relu(n.conv("x", 6)), n.integers(0, -1))
    out = n.op("Gemm", flat, n.weight(6 * 64, 5), n.weight(5))
    assert sizes(oracle(n.model(out))) == [6]


def test_channels_last_graph(net, oracle):
    """As converters from TensorFlow write it: every convolution between two transposes."""
    n = net()
    x = "x"
    for c in (6, 8):
        y = n.op("Transpose", n.conv(x, c), perm=[0, 2, 3, 1])
        y = n.op("Add", y, n.weight(c))
        x = n.op("Transpose", n.op("Relu", y), perm=[0, 3, 1, 2], channels=c)
    assert sizes(oracle(n.model(n.head(x)))) == [6, 8]


def test_layer_norm_keeps_the_structure_and_is_not_exact(net, oracle):
    n = net((2, 4, 16))
    x = n.op("Add", n.op("MatMul", "x", n.weight(16, 12)), n.weight(12))
    x = n.op("LayerNormalization", x, n.weight(12), n.weight(12), axis=-1)
    x = n.op("MatMul", n.op("Erf", n.op("MatMul", x, n.weight(12, 24))), n.weight(24, 5))
    analysis = oracle(n.model(x))
    assert {g.size: g.exact for g in analysis.groups} == {12: False, 24: True}


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, 21, 26])  # the newest that onnxruntime runs
def test_operands_as_attributes_and_as_inputs(net, oracle, opset):
    n = net(opset=opset)
    x = n.relu(n.conv("x", 8))
    if opset >= 13:
        left, right = n.op("Split", x, n.integers(4, 4), outputs=2, axis=1)
    else:
        left, right = n.op("Split", x, outputs=2, axis=1, split=[4, 4])
    n.channels.update({left: 4, right: 4})
    if opset >= 11:
        right = n.op("Pad", right, n.integers(0, 1, 0, 0, 0, 1, 0, 0), channels=6)
        left = n.op("Pad", left, n.integers(0, 0, 0, 0, 0, 2, 0, 0), channels=6)
    else:
        right = n.op("Pad", right, pads=[0, 1, 0, 0, 0, 1, 0, 0], channels=6)
        left = n.op("Pad", left, pads=[0, 0, 0, 0, 0, 2, 0, 0], channels=6)
    both = n.op("Add", left, right)
    if opset >= 10:
        both = n.op("Slice", both, n.integers(0), n.integers(5), n.integers(1), channels=5)
    else:
        both = n.op("Slice", both, starts=[0], ends=[5], axes=[1], channels=5)
    oracle(n.model(n.head(n.conv(both, 4))), seeds=(0, 1, 2))


def test_shared_weight_is_cut_for_one_use_only(net, oracle):
    """Two convolutions share an initializer; only one of them reads a channel that can go."""
    n = net((2, 6, 8, 8))
    shared = n.weight(4, 6, 3, 3)
    first = n.conv("x", 6)
    a = n.op("Conv", n.relu(first), shared, channels=4, kernel_shape=[3, 3], pads=[1] * 4)
    b = n.op("Conv", "x", shared, channels=4, kernel_shape=[3, 3], pads=[1] * 4)
    analysis = oracle(n.model(n.head(n.op("Concat", a, b, axis=1, channels=8))))
    assert sizes(analysis) == [4, 4, 6]


def test_unknown_operator_freezes_what_it_touches(net):
    n = net()
    x = n.relu(n.conv("x", 8))
    strange = n.op("Strange", x, domain="my.ops")
    out = n.head(n.conv(n.op("Add", strange, x), 6))
    model = n.model(onnx.helper.make_tensor_value_info(out, 1, (2, 5)))
    analysis = analyze(model)
    assert sizes(analysis) == []  # the shape of what follows an unknown operator is unknown too
    value = onnx.helper.make_tensor_value_info(strange, 1, (2, 8, 8, 8))
    model.graph.value_info.append(value)
    analysis = analyze(model)
    assert sizes(analysis) == [6]  # unless the file tells it
    assert any("Strange" in f.reason and "rule" in f.reason for f in analysis.frozen)


def test_subgraph_freezes_what_it_captures(net):
    n = net()
    x = n.relu(n.conv("x", 8))
    helper = onnx.helper
    body = helper.make_graph(
        [helper.make_node("Identity", [x], ["inner"])], "body", [], [helper.make_tensor_value_info("inner", 1, None)]
    )
    condition = n.op("Greater", n.op("ReduceMax", "x", keepdims=0), n.constant(np.float32(0)))
    picked = n.op("If", condition, then_branch=body, else_branch=body)
    free = n.relu(n.conv("x", 6))
    analysis = analyze(n.model(picked, n.head(n.conv(free, 4))))
    assert sizes(analysis) == [4, 6]
    assert any("subgraph" in f.reason or "rule" in f.reason for f in analysis.frozen)


def test_group_names_are_stable(net):
    def build():
        n = net()
        return n.model(n.head(n.relu(n.conv(n.relu(n.conv("x", 8)), 6))))

    names = [[g.name for g in analyze(build()).groups] for _ in range(2)]
    assert names[0] == names[1] == ["Conv_0", "Conv_2"]


@pytest.mark.parametrize("equation", ["bik,bjk->bij", "bik,bjk->bji", "bik,bjk->ij", "bik,bjk", "bik,bjl->bij"])
def test_einsum_over_a_product_of_channels(net, oracle, equation):
    n = net((2, 5, 16))
    a, b = (n.op("MatMul", "x", n.weight(16, 6)) for _ in range(2))
    groups = oracle(n.model(n.op("Einsum", a, b, equation=equation))).groups
    assert [(group.size, group.exact) for group in groups] == (
        [(6, False)] if equation.startswith("bik,bjk->b") else []
    )


def test_efficient_channel_attention(net, oracle):
    """A kernel slides over the channels: their number may change, what they compute depends on their neighbours."""
    n = net()
    x = n.relu(n.conv("x", 8))
    mean = n.op("Reshape", n.op("GlobalAveragePool", x), n.integers(2, 1, 8))
    gate = n.op("Conv", mean, n.weight(1, 1, 3), pads=[1, 1])
    gate = n.op("Reshape", n.op("Sigmoid", gate), n.integers(2, 8, 1, 1))
    (group,) = oracle(n.model(n.head(n.op("Mul", x, gate)))).groups
    assert (group.size, group.exact) == (8, False)


def test_a_mixer_loses_channels_and_hidden_units_of_its_tokens(net, oracle):
    n = net((2, 5, 16))
    x = n.op("MatMul", "x", n.weight(16, 12))
    mixed = n.op("MatMul", n.op("Transpose", x, perm=[0, 2, 1]), n.weight(5, 7))
    mixed = n.op("MatMul", n.op("Erf", mixed), n.weight(7, 5))
    x = n.op("Add", x, n.op("Transpose", mixed, perm=[0, 2, 1]))
    analysis = oracle(n.model(n.op("MatMul", x, n.weight(12, 3))))
    assert [(group.size, group.exact) for group in analysis.groups] == [(12, True), (7, True)]


def test_unfold_into_patches_and_back(net, oracle):
    """MobileViT: pixels of a patch become an axis beside the batch, with the channels between them."""
    n = net(("batch", 3, 8, 8), opset=18)
    x = n.relu(n.conv("x", 6))
    x = n.op("Transpose", n.op("Reshape", x, n.integers(-1, 2, 4, 2)), perm=[0, 2, 1, 3])
    x = n.op("Transpose", n.op("Reshape", x, n.integers(-1, 6, 16, 4)), perm=[0, 3, 2, 1])
    x = n.op("Add", n.op("Reshape", x, n.integers(-1, 16, 6)), n.weight(6))
    x = n.op("Transpose", n.op("Reshape", x, n.integers(-1, 4, 16, 6)), perm=[0, 3, 2, 1])
    x = n.op("Transpose", n.op("Reshape", x, n.integers(-1, 4, 2, 2)), perm=[0, 2, 1, 3])
    x = n.op("Reshape", x, n.integers(-1, 6, 8, 8), channels=6)
    assert sizes(oracle(n.model(n.head(n.conv(x, 5))))) == [5, 6]
