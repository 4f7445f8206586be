"""Every form that an operator can take: operands as attributes or inputs, transposed, broadcast, in any rank."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from ortrim.graph import analyze, load, slim, verify


def sizes(analysis):
    return sorted(group.size for group in analysis.groups)


def all_counts(model):
    """Every number of units of every group, checked against the original: 1 is where broadcasting sets in."""
    model = load(model)
    analysis = analyze(model)
    for group in analysis.groups:
        for count in range(1, group.size):
            removal = {group.name: range(count)}
            small = slim(model, removal, analysis=analysis)
            verify(model, small, removal, analysis=analysis)
            onnx.checker.check_model(small, full_check=True)
    return analysis


# -- convolution ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("shape", "kernel"), [((2, 3, 16), [3]), ((2, 3, 6, 6, 7), [3, 3, 3])])
@pytest.mark.parametrize("depthwise", [False, True])
def test_convolutions_over_one_and_three_axes(net, oracle, shape, kernel, depthwise):
    n = net(shape)
    x = "x"
    for channels in (6, 8):
        group = 6 if depthwise and channels == 8 else 1
        channels = 12 if group > 1 else channels
        weight = n.weight(channels, n.channels[x] // group, *kernel)
        x = n.bn(n.op("Conv", x, weight, n.weight(channels), channels=channels, group=group))
    analysis = oracle(n.model(n.head(n.relu(x))))
    assert sizes(analysis) == ([6] if depthwise else [6, 8])


def test_a_convolution_whose_weight_is_the_other_operand(net, oracle):
    """Both sides computed: nothing can be cut, and the layer says so."""
    n = net((1, 3, 8, 8))
    kernel = n.op("Reshape", n.op("GlobalAveragePool", n.conv("x", 24)), n.integers(4, 6, 1, 1))
    analysis = oracle(n.model(n.op("Conv", n.conv("x", 6), kernel, channels=4)))
    assert sizes(analysis) == []
    assert "computed at run time" in {f.layer: f.reason for f in analysis.frozen}["Conv_4"]


# -- matrices ---------------------------------------------------------------------------------------------------------
ADDENDS = [(), (1,), (5,), (1, 5), (2, 5), (2, 1)]


@pytest.mark.parametrize("addend", ADDENDS)
@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_with_every_addend(net, trans, addend):
    n = net((2, 7))
    x = n.op("Gemm", "x", n.weight(7, 8), n.weight(8))
    x = n.op("Transpose", x, perm=[1, 0]) if trans else x
    weight = n.weight(5, 8) if trans else n.weight(8, 5)
    x = n.op("Gemm", x, weight, n.weight(*addend), transA=trans, transB=trans, alpha=0.5, beta=2.0)
    assert sizes(all_counts(n.model(n.op("Gemm", x, n.weight(5, 3))))) == [5, 8]


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_with_the_weight_on_the_left(net, oracle, trans):
    """Channels run down the rows; a block of such layers is removable."""
    n = net((2, 6))
    stream = n.op("Transpose", n.op("Gemm", "x", n.weight(6, 7), n.weight(7)), perm=[1, 0])

    def layer(outputs, inputs, data):
        weight = n.weight(inputs, outputs) if trans else n.weight(outputs, inputs)
        return n.op("Gemm", weight, data, n.weight(outputs, 1), transA=trans, beta=0.5)

    inner = n.op("Relu", layer(5, 7, stream))
    out = layer(4, 7, n.op("Add", layer(7, 5, inner), stream))
    analysis = oracle(n.model(out))
    assert {group.size: group.removable for group in analysis.groups} == {5: True, 7: False}
    all_counts(n.model(out))


def test_gemm_that_adds_a_computed_matrix(net, oracle):
    """What is added lives on when the product is gone, so the product is not a constant."""
    n = net((2, 6))
    stream = n.op("Gemm", "x", n.weight(6, 8), n.weight(8))
    block = n.op("Gemm", n.relu(n.op("Gemm", stream, n.weight(8, 5), n.weight(5))), n.weight(5, 8), stream)
    analysis = oracle(n.model(n.op("Gemm", n.op("Add", block, stream), n.weight(8, 3))))
    assert [(group.size, group.removable) for group in analysis.groups] == [(5, False)]


def test_gemm_of_two_computed_matrices(net, oracle):
    n = net((2, 6))
    a, b = n.op("MatMul", "x", n.weight(6, 4)), n.op("MatMul", "x", n.weight(6, 4))
    assert sizes(oracle(n.model(n.op("Gemm", a, b, transB=1)))) == []


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_matmul_with_the_weight_on_either_side(net, rank):
    n = net((2, 3, 7, 6)[4 - rank :])
    x = n.op("MatMul", "x", n.weight(6, 8))
    x = n.op("MatMul", n.relu(x), n.weight(8, 5))
    x = n.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])
    x = n.op("MatMul", n.weight(4, 5), x)
    assert sizes(all_counts(n.model(n.op("MatMul", n.weight(3, 4), n.op("Add", x, n.weight(4, 1)))))) == [4, 5, 8]


def test_matmul_leaves_rows_that_carry_channels(net):
    """A weight over the pixels of each channel: its own outputs stay, the channels pass."""
    n = net((2, 3, 4, 4))
    x = n.op("Reshape", n.conv("x", 6), n.integers(2, 6, 16))
    x = n.op("Reshape", n.op("MatMul", x, n.weight(16, 9)), n.integers(2, 6, 3, 3))
    analysis = all_counts(n.model(n.head(x)))
    assert sizes(analysis) == [6]


def test_matmul_with_vectors_and_stacks(net, oracle):
    n = net((3, 2, 6))
    vector = n.op("MatMul", n.op("MatMul", "x", n.weight(6, 8)), n.weight(8))
    stack = n.op("MatMul", n.op("MatMul", "x", n.weight(6, 8)), n.weight(3, 8, 5))
    analysis = oracle(n.model(vector, stack))
    assert sizes(analysis) == []
    assert "stack of matrices or a vector" in analysis.frozen[0].reason
    one = net((6,))
    analysis = oracle(one.model(one.op("MatMul", one.op("MatMul", "x", one.weight(6, 8)), one.weight(8, 4))))
    assert sizes(analysis) == []


# -- axes -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize(("axis", "exact"), [(1, (False, False)), (3, (True, True)), (2, (True, True)), (None, None)])
def test_softmax_spans_all_axes_from_its_own_before_opset_13(net, oracle, opset, axis, exact):
    n = net(opset=opset)
    x = n.op("Softmax", n.conv("x", 6), **({} if axis is None else {"axis": axis}))
    (group,) = oracle(n.model(n.op("Flatten", n.conv(x, 2, k=8)))).groups
    assert group.exact == (opset >= 13 if axis is None else exact[opset >= 13])


@pytest.mark.parametrize("opset", [9, 13])
def test_squeeze_and_unsqueeze(net, opset):
    n = net(opset=opset)

    def op(kind, x, axes):
        return n.op(kind, x, n.integers(*axes)) if opset >= 13 else n.op(kind, x, axes=axes)

    x = op("Squeeze", n.op("GlobalAveragePool", n.conv("x", 6)), [2, 3])
    x = op("Unsqueeze", x, [2, 3])
    x = n.op("Sigmoid", x)
    assert sizes(all_counts(n.model(n.head(n.op("Mul", n.conv("x", 6), x))))) == [6]


@pytest.mark.parametrize("opset", [9, 13])
def test_squeeze_of_every_axis_of_size_one(net, opset):
    """A single channel left over is of size 1 too, and must stay."""
    n = net(opset=opset)
    x = n.op("Squeeze", n.op("GlobalAveragePool", n.conv("x", 6)))
    model = n.model(n.op("Gemm", x, n.weight(6, 4), n.weight(4)))
    assert sizes(all_counts(model)) == [6]
    untouched = slim(model, {})
    assert len(next(node for node in untouched.graph.node if node.op_type == "Squeeze").input) == 1


@pytest.mark.parametrize("form", ["scales", "sizes", "axes", "upsample"])
def test_resize(net, form):
    n = net(opset={"axes": 18, "upsample": 9}.get(form, 13))
    x = n.conv("x", 6)
    scales = n.constant(np.float32([1, 1, 2, 2]))
    match form:
        case "scales":
            x = n.op("Resize", x, n.constant(np.zeros(0, np.float32)), scales)
        case "sizes":
            x = n.op("Resize", x, "", "", n.integers(2, 6, 16, 16))
        case "axes":
            x = n.op("Resize", x, "", "", n.integers(16, 6), axes=[-1, 1])
        case "upsample":
            x = n.op("Upsample", x, scales, mode="nearest")
    assert sizes(all_counts(n.model(n.head(n.conv(x, 4))))) == [4, 6]


def test_resize_that_stretches_the_channels(net, oracle):
    n = net()
    x = n.op("Resize", n.conv("x", 6), "", "", n.integers(2, 12, 8, 8), channels=12)
    analysis = oracle(n.model(n.head(n.conv(x, 4))))
    assert sizes(analysis) == [4]
    assert "stretches the channel axis" in analysis.frozen[0].reason


@pytest.mark.parametrize(("opset", "form"), [(9, "attribute"), (13, "input"), (13, "equal"), (18, "num_outputs")])
def test_split(net, opset, form):
    n = net(opset=opset)
    x = n.conv("x", 8)
    more = {"attribute": {"split": [4, 4]}, "num_outputs": {"num_outputs": 2}}.get(form, {})
    operands = [n.integers(4, 4)] if form == "input" else []
    axis = -3 if opset >= 11 else 1
    left, right = n.op("Split", x, *operands, outputs=2, axis=axis, **more)
    n.channels.update({left: 4, right: 4})
    out = n.op("Concat", n.conv(right, 3), n.conv(left, 3), axis=axis, channels=6)
    assert sizes(all_counts(n.model(n.head(out)))) == [3, 3, 4, 4]


@pytest.mark.parametrize("start", [0, 1, 5, 6, -1, -6, -7, -100, 100])
@pytest.mark.parametrize("end", [0, 3, 6, -1, -7, 2**62, -(2**62)])
@pytest.mark.parametrize("step", [1, -1, 2, -3])
def test_slices_out_of_bounds(net, oracle, start, end, step):
    """Pieces beside the whole, so that the rule's idea of what is picked shows."""
    n = net((1, 3, 4, 4))
    x = n.conv("x", 6, k=1)
    cut = n.op("Slice", x, n.integers(start), n.integers(end), n.integers(1), n.integers(step))
    model = n.model(n.conv(n.op("Concat", cut, x, axis=1, channels=6), 2, k=1))
    joined = next(value for value in load(model).graph.value_info if value.name == n.nodes[-2].output[0])
    width = joined.type.tensor_type.shape.dim[1].dim_value
    n.nodes.pop()
    n.weights = n.weights[:-2]
    oracle(n.model(n.op("Conv", joined.name, n.weight(2, width, 1, 1))))


@pytest.mark.parametrize("indices", [[3, 0, 3], [[0, 1], [2, 3], [1, 2]], 2, [-1, -6]])
def test_gather(net, oracle, indices):
    n = net()
    index = n.constant(np.array(indices))
    x = n.op("Gather", n.op("ReduceMean", n.conv("x", 6), axes=[2, 3], keepdims=0), index, axis=1)
    flat = n.op("Flatten", n.op("Unsqueeze", x, n.integers(-1)))
    oracle(n.model(n.op("Gemm", flat, n.weight(max(1, np.size(indices)), 4))), seeds=(0, 1, 2))


@pytest.mark.parametrize("opset", [11, 18])
def test_reductions(net, oracle, opset):
    n = net(opset=opset)
    x = n.conv("x", 6)
    for kind, axes in (("ReduceMax", (-1,)), ("ReduceL2", (2,)), ("ReduceSum", (0,))):
        if opset >= 13 and (kind == "ReduceSum" or opset >= 18):
            x = n.op(kind, x, n.integers(*axes), keepdims=kind == "ReduceMax")
        else:
            x = n.op(kind, x, axes=list(axes), keepdims=kind == "ReduceMax")
        n.channels[x] = 6
    assert sizes(oracle(n.model(n.op("MatMul", n.op("Flatten", x, axis=0), n.weight(6, 3))))) == [6]


def test_positions_among_channels_freeze(net, oracle):
    n = net()
    pooled = n.op("Flatten", n.op("GlobalAveragePool", n.conv("x", 6)))
    best = n.op("ArgMax", pooled, axis=1)
    top = n.op("TopK", n.op("Flatten", n.op("GlobalMaxPool", n.conv("x", 5))), n.integers(2), outputs=2, axis=1)
    analysis = oracle(n.model(best, *top))
    assert sizes(analysis) == []
    assert "position among the channels" in analysis.frozen[0].reason


# -- elementwise ------------------------------------------------------------------------------------------------------
def test_clip_with_computed_bounds(net, oracle):
    n = net()
    low, high = n.op("ReduceMin", "x", keepdims=0), n.op("ReduceMax", "x", keepdims=0)
    assert sizes(oracle(n.model(n.head(n.conv(n.op("Clip", n.conv("x", 6), low, high), 4))))) == [4, 6]


def test_dropout_whose_mask_is_used(net, oracle):
    n = net(opset=13)
    x = n.conv("x", 6)
    dropped, mask = n.op("Dropout", x, outputs=2)
    assert sizes(oracle(n.model(n.head(n.conv(n.op("Where", mask, dropped, x, channels=6), 4))))) == [4, 6]


@pytest.mark.parametrize("outputs", [1, 3])
def test_batch_normalization_in_training_mode(net, oracle, outputs):
    """Its statistics are outputs with channels of their own."""
    n = net(opset=15)
    variance = n.constant(np.full(6, 0.7, np.float32))
    operands = [n.conv("x", 6), *(n.weight(6) for _ in range(3)), variance]
    made = n.op("BatchNormalization", *operands, outputs=3, training_mode=1, channels=6)
    means = n.op("Gemm", n.op("Unsqueeze", made[1], n.integers(0)), n.weight(6, 2))
    model = n.model(n.head(n.conv(made[0], 4)), *([means, made[2]] if outputs == 3 else []))
    assert sizes(oracle(model)) == ([4] if outputs == 3 else [4, 6])


def test_batch_normalization_of_vectors_and_of_one_channel(net, oracle):
    n = net((2, 6))
    assert sizes(
        oracle(n.model(n.op("Gemm", n.bn(n.op("Gemm", "x", n.weight(6, 8), channels=8)), n.weight(8, 3))))
    ) == [8]
    one = net((6,))
    one.channels["x"] = 1
    assert analyze(one.model(one.bn("x"))).groups == ()


def test_layer_norm_over_the_width_and_its_statistics(net, oracle):
    """The channels are not normalised over: exact; but the means are given out, one for each channel."""
    n = net()
    first = n.op("LayerNormalization", n.conv("x", 6), n.weight(8), n.weight(8), axis=-1)
    x, mean, _ = n.op("LayerNormalization", n.conv(first, 4), n.weight(8, 8), outputs=3, axis=-2, channels=4)
    analysis = oracle(n.model(n.head(n.conv(x, 5)), mean))
    assert [(group.size, group.exact) for group in analysis.groups] == [(6, True), (5, True)]


@pytest.mark.parametrize("shape", [(1,), (6, 1, 1), (1, 6, 1, 1), (8,), (6, 8, 8), (2, 1, 8, 1)])
def test_constants_that_broadcast(net, shape):
    n = net()
    x = n.op("Mul", n.weight(*shape), n.conv("x", 6), channels=6)
    assert sizes(all_counts(n.model(n.head(n.conv(n.op("Add", x, n.weight(*shape)), 4))))) == [4, 6]


def test_pad_with_axes_and_unequal_sides(net):
    n = net(opset=18)
    x = n.op("Pad", n.conv("x", 6), n.integers(1, 2, 0, 1), n.constant(np.float32(0.5)), n.integers(-2, 1), channels=9)
    assert sizes(all_counts(n.model(n.head(n.conv(x, 4))))) == [3, 4, 6]
