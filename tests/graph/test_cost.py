"""Parameters and multiply-accumulates against counts by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from ortrim.graph import load, macs, node_macs, parameters, slim


def counts(model):
    return list(node_macs(load(model)).values())


def test_convolution(net):
    n = net((2, 3, 8, 8))
    assert counts(n.model(n.conv("x", 5, k=3))) == [2 * 5 * 8 * 8 * 3 * 3 * 3]


def test_strided_grouped_and_depthwise(net):
    n = net((1, 4, 8, 8))
    x = n.conv(n.conv(n.conv("x", 6, stride=2), 12, group=3, k=1), 12, group=12)
    assert counts(n.model(x)) == [6 * 16 * 4 * 9, 12 * 16 * 2, 12 * 16 * 9]


@pytest.mark.parametrize("group", [1, 2])
def test_transposed(net, group):
    """Every input entry meets every output channel of its group, under every position of the kernel."""
    n = net((1, 4, 5, 5))
    up = n.op("ConvTranspose", "x", n.weight(4, 6 // group, 2, 2), strides=[2, 2], group=group)
    assert counts(n.model(up)) == [4 * 25 * (6 // group) * 4]


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(net, trans_a, trans_b):
    n = net((7, 2) if trans_a else (2, 7))
    weight = n.weight(5, 7) if trans_b else n.weight(7, 5)
    assert counts(n.model(n.op("Gemm", "x", weight, n.weight(5), transA=trans_a, transB=trans_b))) == [2 * 7 * 5]


def test_matmul_with_a_weight_and_of_two_activations(net):
    n = net((2, 4, 6, 8))
    made = n.op("MatMul", "x", n.weight(8, 3))
    scores = n.op("MatMul", made, n.op("Transpose", made, perm=[0, 1, 3, 2]))
    assert counts(n.model(scores)) == [2 * 4 * 6 * 3 * 8, 2 * 4 * 6 * 6 * 3]


def test_convolutions_over_one_and_three_axes(net):
    line, cube = net((1, 3, 16)), net((1, 2, 4, 4, 4))
    assert counts(line.model(line.op("Conv", "x", line.weight(4, 3, 5)))) == [4 * 12 * 3 * 5]
    assert counts(cube.model(cube.op("Conv", "x", cube.weight(3, 2, 2, 2, 2)))) == [3 * 27 * 2 * 8]


def test_an_unknown_batch_is_one_image(net):
    fixed, free = (net((batch, 3, 8, 8)) for batch in (1, "batch"))
    costs = [macs(load(n.model(n.head(n.conv("x", 5))))) for n in (fixed, free)]
    assert costs == [5 * 64 * 27 + 5 * 5] * 2


def test_other_operators_cost_nothing(net):
    n = net()
    assert macs(load(n.model(n.op("MaxPool", n.bn("x"), kernel_shape=[2, 2])))) == 0


def test_parameters_leave_out_what_only_counts(net):
    n = net((2, 3, 8, 8))
    bounds = (n.constant(np.array([value], np.int32)) for value in (0, 9, 2))
    x = n.op("Slice", n.op("Reshape", n.bn(n.conv("x", 4)), n.integers(2, 4, 64)), *bounds)
    assert parameters(load(n.model(x))) == 4 * 3 * 9 + 4 + 4 * 4


def test_a_slim_model_costs_what_is_left(net):
    n = net((1, 3, 8, 8))
    model = load(n.model(n.head(n.relu(n.conv(n.relu(n.conv("x", 8)), 6)))))
    small = slim(model, {"Conv_0": [0, 1, 2], "Conv_2": [5]})
    by_node = node_macs(small)
    assert [by_node[name] for name in ("Conv_0", "Conv_2", "Gemm_6")] == [5 * 64 * 27, 5 * 64 * 5 * 9, 5 * 5]
    assert parameters(small) == (5 * 27 + 5) + (5 * 45 + 5) + (5 * 5 + 5)


def test_nodes_of_unknown_shape_are_left_out(net):
    n = net()
    x = n.op("Strange", "x", domain="my.ops", channels=3)
    out = n.conv(x, 4)
    model = load(n.model(onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, (2, 4, 8, 8))))
    assert node_macs(model) == {}
