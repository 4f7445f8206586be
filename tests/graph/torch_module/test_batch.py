"""Graphs of a fixed batch on another one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from ortrim.errors import DataError
from ortrim.graph import load, to_torch

BATCH = 2


def build(shape, *nodes, **constants):
    """A graph x -> out of a fixed batch; nodes as (operator, inputs, attributes), each reads the last one's output."""
    made, last = [], "x"
    for place, (op, inputs, attributes) in enumerate(nodes):
        output = "out" if place == len(nodes) - 1 else f"t{place}"
        names = [last if name == "." else name for name in inputs.split()]
        made.append(helper.make_node(op, names, [output], f"{op}_{place}", **attributes))
        last = output
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", 1, shape)
    graph = helper.make_graph(made, "g", [x], [helper.make_empty_tensor_value_info("out")], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def weight(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def i(*values):
    return np.array(values, np.int64)


@pytest.fixture(params=[1, 2], ids=["batch 1", "batch 2"])
def n(request):
    return request.param


PASSING = {
    "flatten by a target": lambda n: build(
        (n, 3, 4, 4),
        ("Conv", ". w", {}),
        ("Reshape", ". t", {}),
        ("Gemm", ". v", {}),
        w=weight(5, 3, 3, 3),
        v=weight(20, 6),
        t=i(n, 20),
    ),
    "attention": lambda n: build(
        (n, 6, 8),
        ("Reshape", ". split", {}),
        ("Transpose", ".", {"perm": [0, 2, 1, 3]}),
        ("Einsum", ". .", {"equation": "bhid,bhjd->bhij"}),
        ("Softmax", ".", {"axis": -1}),
        ("Reshape", ". flat", {}),
        split=i(n, 6, 2, 4),
        flat=i(n, -1),
    ),
    "windows": lambda n: build(
        (n, 4, 4, 3),
        ("Reshape", ". cut", {}),
        ("Transpose", ".", {"perm": [0, 1, 3, 2, 4, 5]}),
        ("Reshape", ". windows", {}),
        ("MatMul", ". w", {}),
        ("Reshape", ". back", {}),
        ("ReduceMean", ".", {"axes": [1, 2], "keepdims": 0}),
        cut=i(n, 2, 2, 2, 2, 3),
        windows=i(4 * n, 4, 3),
        back=i(n, 4, 4, 5),
        w=weight(3, 5),
    ),
    "shuffle, halves, and a time axis": lambda n: build(
        (n, 4, 6),
        ("Reshape", ". t", {}),
        ("Transpose", ".", {"perm": [0, 2, 1, 3]}),
        ("Reshape", ". back", {}),
        ("Slice", ". one three axis", {}),
        ("Transpose", ".", {"perm": [2, 0, 1]}),
        ("Softmax", ".", {"axis": 0}),
        ("Transpose", ".", {"perm": [1, 2, 0]}),
        t=i(n, 2, 2, 6),
        back=i(n, 4, 6),
        one=i(1),
        three=i(3),
        axis=i(1),
    ),
    "resize to sizes": lambda n: build(
        (n, 2, 4, 4),
        ("Resize", ". none none sizes", {"mode": "linear"}),
        ("Pad", ". pads", {}),
        none=np.array([], np.float32),
        sizes=i(n, 2, 8, 6),
        pads=i(0, 0, 1, 0, 0, 0, 0, 1),
    ),
}


@pytest.mark.parametrize("name", PASSING)
def test_images_are_computed_each_by_itself(agree, name, n):
    model = load(PASSING[name](n))
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = weight(*shape)
    module = agree(model, {"x": x})
    assert module.batch == "any"
    many = torch.from_numpy(weight(3 * n, *shape[1:]))
    parts = [module(part) for part in many.split(n)]
    assert len(parts) == 3
    torch.testing.assert_close(module(many), torch.cat(parts))
    if n == 2:  # fewer than the graph's
        torch.testing.assert_close(module(many[:1]), parts[0][:1])


MIXING = {
    "sums over images": lambda n: build((n, 4), ("ReduceSum", ". axes", {"keepdims": 1}), axes=i(0)),
    "puts images side by side": lambda n: build((n, 4), ("Reshape", ". t", {}), t=i(1, 4 * n)),
    "multiplies images": lambda n: build((n, 4), ("Gemm", ". .", {"transB": 1})),
    "normalizes over images": lambda n: build((n, 4), ("Softmax", ".", {"axis": 0})),
    "tells images apart": lambda n: build((n, 4), ("Add", ". w", {}), w=weight(n, 4)),
    "appends a constant": lambda n: build((n, 4), ("Concat", ". w", {"axis": 0}), w=weight(1, 4)),
    "picks an image": lambda n: build((n, 4), ("Gather", ". w", {"axis": 0}), w=i(0)),
    "counts images": lambda n: build((n, 4), ("Expand", ". w", {}), w=i(3, n, 4)),
    "has no rule": lambda n: build((n, 4), ("NonZero", ".", {})),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_may_mix_images_keeps_its_batch(agree, name):
    model = load(MIXING[name](BATCH))
    module = agree(model, {"x": weight(BATCH, 4)})
    assert module.batch.startswith("the batch is fixed: ")
    with pytest.raises(
        DataError, match=r"^input 'x' has the shape \(2, 4\), got \(3, 4\); the batch is fixed: "
    ) as refusal:
        module(torch.zeros(3, 4))
    assert model.graph.node[0].name in str(refusal.value) or "output 'out'" in str(refusal.value)


def test_a_free_batch_stays_free():
    model = build(("n", 3, 4), ("Reshape", ". t", {}), t=i(0, -1))
    module = to_torch(model)
    assert module.batch == ""
    for count in (1, 5):
        assert module(torch.zeros(count, 3, 4)).shape == (count, 12)
