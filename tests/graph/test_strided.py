"""`as_strided` of torch's default exporter becomes a Gather on an axis of its own, or a Reshape."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from ortrim.graph import analyze, load


def strided(n, x, entries, picked, scale=None):
    """Entries `picked` of every image, from the flattened tensor, with indices computed from the batch."""
    batch = n.op("Squeeze", n.op("Shape", "x", start=0, end=1))
    images = n.op("Range", n.constant(np.int64(0)), batch, n.constant(np.int64(1)))
    offset = n.op("Mul", images, n.constant(np.int64(scale or entries)))
    axes = n.integers(*range(1, picked.ndim + 1))
    index = n.op("Add", n.op("Unsqueeze", offset, axes), n.constant(picked[None].astype(np.int64)))
    index = n.op("Add", index, n.constant(np.zeros((1,) * (picked.ndim + 1), np.int64)))
    return n.op("Gather", n.op("Reshape", x, n.integers(-1)), index)


def run(model, image):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})[0]


def check(model):
    """The loaded model, after comparing it with the original on several batches."""
    loaded = load(model)
    for batch in (1, 2, 5):
        image = np.random.default_rng(batch).standard_normal((batch, 3, 8, 8)).astype(np.float32)
        np.testing.assert_allclose(run(loaded, image), run(model, image), rtol=1e-5, atol=1e-6)
    return loaded


@pytest.fixture
def pooled(net):
    n = net(("batch", 3, 8, 8), opset=18)
    return n, n.op("GlobalAveragePool", n.relu(n.conv("x", 6)))


def test_every_entry_in_order_is_a_reshape(pooled, oracle):
    n, x = pooled
    x = strided(n, x, 6, np.arange(6).reshape(6, 1, 1))
    model = n.model(n.op("Gemm", n.op("Flatten", x), n.weight(6, 4)))
    kinds = [node.op_type for node in check(model).graph.node]
    assert kinds == ["Conv", "Relu", "GlobalAveragePool", "Reshape", "Flatten", "Gemm"]
    assert [group.size for group in oracle(model).groups] == [6]


def test_some_entries_are_a_gather_from_every_image(pooled, oracle):
    n, x = pooled
    x = strided(n, x, 6, np.array([[5, 3], [0, 3]]))
    model = n.model(n.op("MatMul", n.op("Reshape", x, n.integers(-1, 4)), n.weight(4, 3)))
    loaded = check(model)
    gather = next(node for node in loaded.graph.node if node.op_type == "Gather")
    assert next(item.i for item in gather.attribute if item.name == "axis") == 1
    assert not {"Range", "Shape"} & {node.op_type for node in loaded.graph.node}
    oracle(model)


def test_another_stride_than_an_image_is_left_as_it_is(pooled):
    """Images that overlap: entries of several images in one row."""
    n, x = pooled
    model = n.model(n.op("Reshape", strided(n, x, 6, np.arange(3), scale=3), n.integers(-1, 3)))
    loaded = check(model)
    assert "Range" in {node.op_type for node in loaded.graph.node}
    assert not analyze(loaded).groups
