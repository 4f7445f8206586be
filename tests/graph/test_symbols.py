"""The batch keeps its name through a graph."""

from __future__ import annotations

import numpy as np
import pytest

from ortrim.graph import load
from ortrim.graph.protos import tensor_shapes


@pytest.fixture
def free(net):
    return net(("batch", 6, 8, 8), opset=18)


def shape(n, name, *outputs):
    return tensor_shapes(load(n.model(*(outputs or (n.op("Relu", name),)))))[name]


def test_a_reshape_that_infers_the_batch(free):
    n = free
    assert shape(n, n.op("Reshape", n.relu("x"), n.integers(-1, 6, 64))) == ("batch", 6, 64)


def test_windows_and_back(free):
    n = free
    windows = n.op("Reshape", n.relu("x"), n.integers(-1, 6, 4, 4))
    back = n.op("Reshape", n.relu(windows), n.integers(-1, 6, 8, 8))
    shapes = tensor_shapes(load(n.model(n.op("Add", n.relu(back), n.relu("x")))))
    assert shapes[windows] == ("4*batch", 6, 4, 4)
    assert shapes[back] == ("batch", 6, 8, 8)


def test_a_sum_of_what_is_called_differently(free):
    """The sum's batch is one of its operands', even where inference saw two names."""
    n = free
    other = n.op("Reshape", n.op("Reshape", n.relu("x"), n.integers(-1, 64)), n.integers(-1, 6, 8, 8))
    assert shape(n, n.op("Add", other, n.relu("x"))) == ("batch", 6, 8, 8)


@pytest.mark.parametrize("both", [True, False])
def test_several_sizes_in_one_product(net, both):
    n = net(("batch", 6, "h", "w"), opset=18)
    flat = n.op("Reshape", n.relu("x"), n.integers(0, 6, -1) if both else n.integers(-1, 2))
    assert shape(n, flat) == (("batch", 6, "h*w") if both else ("3*batch*h*w", 2))


def test_what_does_not_follow_keeps_a_name_of_its_own(net):
    n = net(("batch", 7), opset=18)
    size = shape(n, n.op("Reshape", n.relu("x"), n.integers(-1, 2)))[0]
    assert isinstance(size, str)
    assert size != "batch"


def test_resize_by_scales(free):
    n = free
    scales = n.constant(np.array([1, 1, 2, 2], np.float32))
    assert shape(n, n.op("Resize", n.relu("x"), "", scales, mode="nearest")) == ("batch", 6, 16, 16)


def test_tile_and_slice_with_computed_operands(free):
    n = free
    batch = n.op("Shape", "x", start=0, end=1)
    tiled = n.op("Tile", n.weight(1, 6, 4), n.op("Concat", batch, n.integers(1, 1), axis=0))
    cut = n.op("Slice", n.relu("x"), n.integers(0), n.op("Add", batch, n.integers(-1)), n.integers(2))
    shapes = tensor_shapes(load(n.model(n.relu(tiled), n.relu(cut))))
    assert shapes[tiled] == ("batch", 6, 4)
    assert (*shapes[cut][:2], shapes[cut][3]) == ("batch", 6, 8)


def test_resize_of_some_axes(free):
    n = free
    sizes = n.op("Concat", n.op("Shape", "x", start=0, end=2), n.integers(7, 9), axis=0)
    assert shape(n, n.op("Resize", n.relu("x"), "", "", sizes, mode="nearest")) == ("batch", 6, 7, 9)
