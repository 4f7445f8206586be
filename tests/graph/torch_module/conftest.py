"""What the tests of the torch modules share: one-node graphs, and onnxruntime as the oracle."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from ortrim.graph import to_torch
from ortrim.graph.run import run_as_written


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


def ints(*values):
    return np.array(values, dtype=np.int64)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def node_model(op, inputs, *, constants=(), outputs=1, opset=17, domain="", **attributes):
    """A model of one node. `inputs` are arrays, None where one is left out; `constants`: positions of initializers."""
    names = ["" if value is None else f"i{place}" for place, value in enumerate(inputs)]
    made = [f"o{place}" for place in range(outputs)]
    node = helper.make_node(op, names, made, "tested", domain=domain, **attributes)
    values, weights = [], []
    for place, (name, value) in enumerate(zip(names, inputs, strict=True)):
        if value is not None and place in constants:
            weights.append(numpy_helper.from_array(np.asarray(value), name))
        elif value is not None:
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            values.append(helper.make_tensor_value_info(name, kind, value.shape))
    ends = [helper.make_empty_tensor_value_info(name) for name in made]
    graph = helper.make_graph([node], "one", values, ends, weights)
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def feeds(inputs, constants=()):
    return {f"i{place}": v for place, v in enumerate(inputs) if v is not None and place not in constants}


def run(module, named):
    """The outputs as arrays, from arrays by name."""
    with torch.no_grad():
        found = module({name: torch.from_numpy(np.array(value)) for name, value in named.items()})
    return [part.numpy() for part in (found if isinstance(found, tuple) else (found,))]


def assert_same(found, wanted, tolerance=1e-5):
    """Shapes, types, and values to `tolerance` of the largest."""
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=1e-6) if theirs.dtype != bool else 1
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * float(scale))


def check(model, named, tolerance=1e-5):
    """The module computes what onnxruntime does; gives the module."""
    module = to_torch(model)
    assert_same(run(module, named), list(run_as_written(model, named).values()), tolerance)
    return module


@pytest.fixture(scope="session")
def agree():
    """`agree(model, feeds, tolerance)`: compare with onnxruntime."""
    return check


@pytest.fixture(scope="session")
def agree_node():
    """`agree_node(op, inputs, constants=..., opset=..., **attributes)`: a node alone, compared with onnxruntime."""

    def compare(op, inputs, *, constants=(), tolerance=1e-5, **more):
        inputs = [value if value is None else np.asarray(value) for value in inputs]
        return check(node_model(op, inputs, constants=constants, **more), feeds(inputs, constants), tolerance)

    return compare


@pytest.fixture(scope="session")
def one_node():
    """`one_node(op, inputs, constants=..., outputs=..., opset=..., **attributes)`: a model of one node."""
    return node_model
