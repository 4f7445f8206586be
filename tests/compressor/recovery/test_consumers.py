"""A consumer's matrix times its columns is what onnxruntime computes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from ortrim.compressor.recovery.consumers import find_consumers, weights_of

HEADER = '<ir_version: 9, opset_import: ["" : 17]>'
# text of the graph, shapes of its initializers (drawn at random)
CASES = {
    "conv": (
        "g (float[2,6,9,8] x) => (float[2,4,8,7] y) {y = Conv<pads=[1,0,0,1], kernel_shape=[2,2]>(x, w, b)}",
        {"w": (4, 6, 2, 2), "b": (4,)},
    ),
    "conv strided and dilated": (
        "g (float[2,3,11,12] x) => (float[2,4,4,3] y) {y = Conv<strides=[2,3], dilations=[2,1], pads=[1,0,2,1]>(x, w)}",
        {"w": (4, 3, 4, 4)},
    ),
    "conv grouped": (
        "g (float[2,6,5,5] x) => (float[2,4,5,5] y) {y = Conv<group=2, pads=[1,1,1,1]>(x, w, b)}",
        {"w": (4, 3, 3, 3), "b": (4,)},
    ),
    "conv depthwise": (
        "g (float[2,4,5,5] x) => (float[2,8,5,5] y) {y = Conv<group=4, pads=[1,1,1,1]>(x, w)}",
        {"w": (8, 1, 3, 3)},
    ),
    "conv of a line": ("g (float[2,3,9] x) => (float[2,4,7] y) {y = Conv(x, w)}", {"w": (4, 3, 3)}),
    "conv of a volume": ("g (float[1,2,4,5,3] x) => (float[1,3,3,4,2] y) {y = Conv(x, w)}", {"w": (3, 2, 2, 2, 2)}),
    "conv padded to the same size": (
        'g (float[2,3,8,7] x) => (float[2,4,4,4] y) {y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)}',
        {"w": (4, 3, 3, 3)},
    ),
    "conv padded at the front": (
        'g (float[2,3,8,7] x) => (float[2,4,8,7] y) {y = Conv<auto_pad="SAME_LOWER">(x, w)}',
        {"w": (4, 3, 2, 2)},
    ),
    "transposed": (
        "g (float[2,6,4,5] x) => (float[2,3,9,12] y) {y = ConvTranspose<strides=[2,2], pads=[1,0,0,1], "
        "output_padding=[1,1]>(x, w, b)}",
        {"w": (6, 3, 3, 4), "b": (3,)},
    ),
    "transposed, grouped and dilated": (
        "g (float[2,6,4,4] x) => (float[2,4,11,11] y) {y = ConvTranspose<strides=[2,2], dilations=[2,2], group=2>"
        "(x, w)}",
        {"w": (6, 2, 3, 3)},
    ),
    "gemm": ("g (float[5,6] x) => (float[5,3] y) {y = Gemm<alpha=0.5, beta=2.0>(x, w, b)}", {"w": (6, 3), "b": (3,)}),
    "gemm transposed": ("g (float[5,6] x) => (float[5,3] y) {y = Gemm<transB=1>(x, w)}", {"w": (3, 6)}),
    "matmul on the right": (
        "g (float[2,5,6] x) => (float[2,5,3] y) {m = MatMul(x, w) y = Add(m, b)}",
        {"w": (6, 3), "b": (3,)},
    ),
    "matmul on the left": ("g (float[2,6,5] x) => (float[2,3,5] y) {y = MatMul(w, x)}", {"w": (3, 6)}),
    "batch normalization": (
        "g (float[3,4,5,2] x) => (float[3,4,5,2] y) {y = BatchNormalization<epsilon=0.1>(x, w, b, zero, v)}",
        {"w": (4,), "b": (4,), "zero": (4,), "v": (4,)},
    ),
    "batch normalization behind": (
        "g (float[2,3,5,5] x) => (float[2,4,5,5] y) {c = Conv(x, w) y = BatchNormalization(c, s, o, m, v)}",
        {"w": (4, 3, 1, 1), "s": (4,), "o": (4,), "m": (4,), "v": (4,)},
    ),
}


def build(text, shapes, rng):
    model = parser.parse_model(f"{HEADER} {text}")
    for name, shape in shapes.items():
        values = rng.random(shape, np.float32) - (0.0 if name == "v" else 0.3)  # a variance is positive
        model.graph.initializer.append(onnx.numpy_helper.from_array(values * (name != "zero"), name))
    for number, node in enumerate(model.graph.node):
        node.name = f"node{number}"
    return onnx.shape_inference.infer_shapes(model)


def run(model, x, tensor):
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    if tensor != "y":
        probed.graph.output.append(onnx.ValueInfoProto(name=tensor))
    session = ort.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([tensor], {"x": x})[0]


def computed(consumer, arrays, x, chosen=None):
    out = consumer.matrix(arrays[consumer.weight]) @ consumer.reader.columns(x, chosen)
    if consumer.bias is not None:
        out += consumer.rows_of(consumer.bias.scale * arrays[consumer.bias.tensor].ravel())[:, :, None]
    return out


@pytest.fixture(params=CASES)
def case(request):
    rng = np.random.default_rng(0)
    model = build(*CASES[request.param], rng)
    consumer = find_consumers(model)["node0"]
    arrays = weights_of(model, [tensor.name for tensor in model.graph.initializer])
    x = rng.standard_normal([dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim], np.float32)
    return model, consumer, arrays, x


def own(model, consumer, x):
    """What the node writes, with the constant that it or an Add behind it adds."""
    behind = consumer.bias is not None and model.graph.node[0].op_type == "MatMul"
    return run(model, x, "y" if behind else consumer.output)


def test_matrix_times_columns_is_the_output(case):
    model, consumer, arrays, x = case
    if "m" in arrays:
        arrays = {**arrays, "m": np.zeros_like(arrays["m"])}  # the mean is subtracted behind the node
    mine = computed(consumer, arrays, x)
    theirs = consumer.reader.rows(own(model, consumer, x)).reshape(mine.shape)
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_chosen_positions_are_those_columns(case):
    _, consumer, _, x = case
    every = consumer.reader.positions(x.shape)
    chosen = np.arange(0, every, 3)
    all_columns = consumer.reader.columns(x).reshape(consumer.groups, -1, len(x), every)
    some = consumer.reader.columns(x, chosen).reshape(consumer.groups, -1, len(x), len(chosen))
    np.testing.assert_array_equal(some, all_columns[..., chosen])
    assert all_columns.shape[1] == consumer.columns


@pytest.mark.parametrize("mixing", [False, True])
def test_the_weight_comes_back(case, mixing):
    _, consumer, arrays, _ = case
    consumer = consumer.as_mixing() if mixing else consumer
    weight = arrays[consumer.weight]
    np.testing.assert_allclose(consumer.tensor(consumer.matrix(weight)), weight, rtol=1e-6)


def test_columns_at_are_those_of_the_channel(case):
    _, consumer, arrays, _ = case
    groups = consumer.shape[consumer.channel_axis] * consumer.taps // consumer.columns  # that the axis holds
    width = consumer.shape[consumer.channel_axis] // groups
    positions = [group * width + width - 1 for group in range(groups)]  # the last channel of every group
    without = arrays[consumer.weight].copy()
    without[(slice(None),) * consumer.channel_axis + (positions,)] = 0
    matrix = consumer.matrix(arrays[consumer.weight])
    np.put_along_axis(matrix, consumer.columns_at(positions)[:, None, :], 0.0, 2)
    np.testing.assert_allclose(matrix, consumer.matrix(without))


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,6] x, float[6,3] z) => (float[2,3] y) {y = MatMul(x, z)}",
        "g (float[6,2] x) => (float[2,3] y) {y = Gemm<transA=1>(x, w)}",
        "g (float[2,6] x) => (float[2,6] y) {y = Relu(x)}",
    ],
)
def test_other_nodes_are_not_consumers(text):
    assert find_consumers(build(text, {"w": (6, 3)}, np.random.default_rng(0))) == {}
