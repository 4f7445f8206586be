"""Shape arithmetic is folded with sizes unknown, and means the same for every size."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from ortrim.graph import analyze, load

COMPUTING = {"Shape", "Gather", "Concat", "Cast", "Add", "Sub", "Mul", "Div", "Unsqueeze", "Squeeze"}


def run(model, image):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"x": image})


@pytest.fixture
def folded():
    """`folded(model, *shapes)`: the loaded model, after comparing it with the original on images of these shapes."""

    def check(model, *shapes):
        loaded = load(model)
        for shape in shapes:
            image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            for wanted, got in zip(run(model, image), run(loaded, image), strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
        return loaded

    return check


def kinds(model):
    return [node.op_type for node in model.graph.node]


def operand(model, kind, position=1):
    """Values of a node's constant operand."""
    node = next(node for node in model.graph.node if node.op_type == kind)
    tensor = next(t for t in model.graph.initializer if t.name == node.input[position])
    return onnx.numpy_helper.to_array(tensor).tolist()


TWO_BATCHES = ((1, 3, 8, 8), (5, 3, 8, 8))


@pytest.fixture
def free(net):
    """A net whose batch is unknown."""
    return net(("batch", 3, 8, 8))


def batch_of(n, x="x"):
    """Shape -> Gather, as a vector."""
    return n.op("Unsqueeze", n.op("Gather", n.op("Shape", x), n.constant(np.int64(0))), n.integers(0))


def test_flatten_as_the_legacy_exporter_writes_it(free, folded):
    n = free
    x = n.relu(n.conv("x", 6))
    flat = n.op("Reshape", x, n.op("Concat", batch_of(n, x), n.integers(-1), axis=0))
    loaded = folded(n.model(n.op("Gemm", flat, n.weight(6 * 64, 4))), *TWO_BATCHES)
    assert not COMPUTING & set(kinds(loaded))
    assert operand(loaded, "Reshape") == [0, -1]
    assert [group.size for group in analyze(loaded).groups] == [6]


def test_shuffle_with_every_size_read_from_the_tensor(free, folded):
    n = free
    x = n.relu(n.conv("x", 8))
    shape = n.op("Shape", x)
    sizes = [n.op("Gather", shape, n.integers(axis)) for axis in range(4)]
    halves = n.op("Div", sizes[1], n.integers(2))
    split = n.op("Reshape", x, n.op("Concat", sizes[0], n.integers(2), halves, *sizes[2:], axis=0))
    back = n.op("Transpose", split, perm=[0, 2, 1, 3, 4])
    out = n.op("Reshape", back, n.op("Concat", sizes[0], n.integers(-1), *sizes[2:], axis=0), channels=8)
    loaded = folded(n.model(n.head(n.conv(out, 5))), *TWO_BATCHES)
    assert kinds(loaded).count("Reshape") == 2
    assert not COMPUTING & set(kinds(loaded))
    assert operand(loaded, "Reshape") == [0, 2, 4, 8, 8]
    assert [group.size for group in analyze(loaded).groups] == [4, 5]


def test_arithmetic_of_every_kind(free, folded):
    n = free
    shape = n.op("Shape", "x")
    two, three = n.integers(2), n.integers(3)
    height = n.op("Gather", shape, two)
    rows = n.op("Div", n.op("Mul", height, three), two)  # 12
    rows = n.op("Max", n.op("Sub", rows, n.integers(8)), n.integers(1))  # 4
    rows = n.op("Add", n.op("Min", rows, n.integers(100)), n.integers(0))
    half = n.op("Div", height, n.integers(-2))  # towards zero: -4
    columns = n.op("Mul", half, half)  # 16
    target = n.op("Concat", n.op("Gather", shape, n.integers(0)), rows, columns, n.integers(-1), axis=0)
    loaded = folded(n.model(n.op("Reshape", "x", target)), *TWO_BATCHES)
    assert kinds(loaded) == ["Reshape"]
    assert operand(loaded, "Reshape") == [0, 4, 16, -1]


def test_vectors_are_followed_entry_by_entry(free, folded):
    n = free
    scaled = n.op("Div", n.op("Mul", n.op("Shape", "x"), n.integers(1, 1, 2, 1)), n.integers(1, 1, 1, 2))
    loaded = folded(n.model(n.op("Reshape", "x", scaled)), *TWO_BATCHES)
    assert operand(loaded, "Reshape") == [0, 3, 16, 4]


def test_shape_with_start_and_end(net, folded):
    n = net((2, 3, 8, 8))
    tail = n.op("Concat", n.integers(2), n.op("Shape", "x", start=1, end=2), n.integers(-1), axis=0)
    first = n.op("Gather", n.op("Shape", "x", start=-2), n.integers(0))
    other = n.op("Concat", n.integers(2), first, n.integers(-1), axis=0)
    loaded = folded(n.model(n.op("Reshape", "x", tail), n.op("Reshape", "x", other)), (2, 3, 8, 8))
    assert kinds(loaded) == ["Reshape", "Reshape"]
    assert operand(loaded, "Reshape") == [2, 3, -1]


def test_a_reversed_shape(free, folded):
    n = free
    shape = n.op("Slice", n.op("Shape", "x"), n.integers(-1), n.integers(-100), n.integers(0), n.integers(-1))
    turned = n.op("Flatten", n.op("Transpose", "x", perm=[3, 2, 1, 0]))
    assert kinds(folded(n.model(n.op("Reshape", turned, shape)), *TWO_BATCHES)) == ["Transpose", "Flatten", "Reshape"]


def test_fractions_are_not_integers(net, folded):
    """int(height * 1.5), as tracing writes it: 7 / 3 * 3 is 7 in floats and 6 in integers."""
    n = net(("batch", 3, 7, 8))
    wide = n.op("Cast", n.op("Shape", "x"), to=TensorProto.FLOAT)
    pooled = n.op("Shape", n.op("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2]))
    small = n.op("Cast", pooled, to=TensorProto.FLOAT)
    exact = n.op("Cast", n.op("Mul", n.op("Div", wide, small), small), to=TensorProto.INT64)
    folded(n.model(n.op("Reshape", "x", exact)), (1, 3, 7, 8), (4, 3, 7, 8))


def test_sizes_scaled_by_a_fraction(net, folded):
    n = net(("batch", 3, "height", "width"))
    size = n.op("Cast", n.op("Slice", n.op("Shape", "x"), n.integers(2), n.integers(4)), to=TensorProto.FLOAT)
    size = n.op("Cast", n.op("Mul", size, n.constant(np.float32(1.5))), to=TensorProto.INT64)
    sizes = n.op("Concat", n.op("Slice", n.op("Shape", "x"), n.integers(0), n.integers(2)), size, axis=0)
    folded(n.model(n.op("Resize", "x", "", "", sizes, mode="nearest")), (1, 3, 8, 8), (2, 3, 9, 7))


def test_matrices_of_sizes_are_left_alone(free, folded):
    n = free
    shape = n.op("Shape", "x")
    rows = (n.op("Unsqueeze", n.op("Gather", shape, n.integers(*axes)), n.integers(0)) for axes in ((0, 1), (2, 3)))
    first = n.op("Gather", n.op("Concat", *rows, axis=0), n.constant(np.int64(0)), axis=0)
    target = n.op("Concat", first, n.integers(-1), axis=0)
    folded(n.model(n.op("Reshape", "x", target)), *TWO_BATCHES)


def test_two_unknown_sizes_swapped(net, folded):
    n = net(("batch", 3, "height", "width"))
    shape = n.op("Shape", "x")
    sizes = [n.op("Gather", shape, n.integers(axis)) for axis in (0, 3)]
    target = n.op("Concat", *sizes, n.integers(-1), axis=0)
    folded(n.model(n.op("Reshape", "x", target)), (1, 3, 8, 6), (2, 3, 5, 7))


def test_unknown_height_and_width_leave_channels_prunable(net, oracle):
    n = net(("batch", 3, "height", "width"))
    x = n.relu(n.conv("x", 8))
    shape = n.op("Shape", x)
    sizes = [n.op("Gather", shape, n.integers(axis)) for axis in (0, 2, 3)]
    flat = n.op("Reshape", x, n.op("Concat", sizes[0], n.integers(8, -1), axis=0))
    back = n.op("Reshape", n.op("Tanh", flat), n.op("Concat", sizes[0], n.integers(8), *sizes[1:], axis=0), channels=8)
    analysis = oracle(n.model(n.conv(n.conv(back, 6), 3)))
    assert 6 in {group.size for group in analysis.groups}


def test_expand_to_the_shape_of_another(free, folded):
    n = free
    x = n.conv("x", 6)
    grown = n.op("Expand", n.op("GlobalAveragePool", x), n.op("Shape", x))
    loaded = folded(n.model(n.head(n.op("Mul", grown, x))), *TWO_BATCHES)
    assert "Shape" not in kinds(loaded)
    assert operand(loaded, "Expand") == [1, 6, 8, 8]
    assert [group.size for group in analyze(loaded).groups] == [6]


def test_expand_of_a_constant_to_the_batch_stays(free, folded):
    """A class token: the constant has size 1 where the batch is not known."""
    n = free
    target = n.op("Concat", batch_of(n), n.integers(4), axis=0)
    folded(n.model(n.op("Expand", n.weight(1, 4), target)), *TWO_BATCHES)


@pytest.mark.parametrize("size", [(16, 16), (11, 13), (4, 4)])
def test_resize_to_sizes_with_an_unknown_batch(free, folded, size):
    n = free
    x = n.conv("x", 6)
    sizes = n.op("Concat", n.op("Slice", n.op("Shape", x), n.integers(0), n.integers(2)), n.integers(*size), axis=0)
    loaded = folded(n.model(n.head(n.conv(n.op("Resize", x, "", "", sizes, mode="linear"), 4))), *TWO_BATCHES)
    assert [group.size for group in analyze(loaded).groups] == [6, 4]


def test_bounds_keep_their_type(net, folded):
    """int32 bounds, one known and one not: all must stay int32."""
    n = net(("batch", 3, 8, "width"))
    sizes = n.op("Shape", n.relu("x"))
    sizes = n.op("Concat", sizes, sizes, axis=0)
    start, end = (
        n.op("Cast", n.op("Gather", sizes, n.integers(axis)), to=TensorProto.INT32) for axis in (2, 3)
    )  # 8, and not known
    start = n.op("Sub", start, n.constant(np.array([7], np.int32)))
    folded(n.model(n.op("Slice", "x", start, end, n.constant(np.array([3], np.int32)))), (1, 3, 8, 9), (2, 3, 8, 5))


def test_pads_from_sizes(free, folded):
    n = free
    height = n.op("Gather", n.op("Shape", "x"), n.integers(2))
    low = n.op("Sub", n.integers(11), height)
    pads = n.op("Concat", n.integers(0, 1, 0, 0, 0, 1), low, n.integers(2), axis=0)
    loaded = folded(n.model(n.op("Pad", "x", pads)), *TWO_BATCHES)
    assert kinds(loaded) == ["Pad"]
    assert operand(loaded, "Pad") == [0, 1, 0, 0, 0, 1, 3, 2]


def test_one_fold_makes_the_next_possible(free, folded):
    """Twelve reshapes, each target computed from the shape of the one before."""
    n = free
    x = "x"
    for _ in range(12):
        target = n.op("Concat", batch_of(n, x), n.op("Gather", n.op("Shape", x), n.integers(3, 2, 1)), axis=0)
        x = n.op("Reshape", n.op("Relu", x), target)
    loaded = folded(n.model(n.op("Flatten", x)), *TWO_BATCHES)
    assert not COMPUTING & set(kinds(loaded))


def test_pieces_of_a_concat_without_entries_go(free, folded):
    """A roll by nothing, as exporters write it."""
    n = free
    x = n.relu(n.conv("x", 6))
    parts = [n.op("Slice", x, n.integers(start), n.integers(end), n.integers(2)) for start, end in ((0, 8), (8, 8))]
    model = n.model(n.head(n.op("Concat", *parts, axis=2)))
    loaded = folded(model, *TWO_BATCHES)
    assert kinds(loaded).count("Slice") == 1
    assert [group.size for group in analyze(loaded).groups] == [6]
