"""The node tests that ship with onnx, one test here for every operator."""

from __future__ import annotations

import warnings
from collections import defaultdict

import numpy as np
import onnx
import pytest
import torch
from onnx.backend.test.loader import load_model_tests

from ortrim.errors import ModelError
from ortrim.graph.torch_module import OnnxModule, names

OPERATORS = sorted(name for name in names() if "::" not in name)
UNTESTED = {
    *("SimplifiedLayerNormalization", "GlobalLpPool", "Cast", "CastLike"),
    *("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength"),
    *("SplitToSequence", "ConcatFromSequence"),
}
"""onnx has no test, or only of types that torch lacks, or of lists: `test_operators` and `test_module` have them."""
OTHERWISE = {
    "test_training_dropout": "nothing is dropped",
    "test_training_dropout_default": "nothing is dropped",
    "test_training_dropout_mask": "nothing is dropped",
    "test_training_dropout_default_mask": "nothing is dropped",
    "test_resize_downsample_scales_linear_align_corners": "onnxruntime aligns with the corner of a whole size",
    "test_resize_downsample_scales_cubic_align_corners": "onnxruntime aligns with the corner of a whole size",
    "test_quantizelinear_blocked_symmetric": "the expected output of the test has no entries",
}
WIDER = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64, "int4": np.int8, "uint4": np.uint8}
"""How types that torch lacks, or computes little with, are given to a module."""


@pytest.fixture(scope="module")
def cases():
    """Operator -> its tests; those of functions written out as other operators are left out."""
    found = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx makes the data on the spot, and overflows on purpose
        tests = load_model_tests(kind="node")
    for test in tests:
        kinds = {node.op_type for node in test.model.graph.node} - {"Constant"}
        if len(kinds) == 1 and "_expanded" not in test.name and test.name not in OTHERWISE:
            found[kinds.pop()].append(test)
    return found


def tensor(value):
    """None for text and for types that torch lacks."""
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind in "USc":
        return None
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    if array.dtype.name.startswith(("float8", "float4", "int2", "uint2")):
        return None
    return torch.from_numpy(np.array(array, dtype=WIDER.get(array.dtype.name, array.dtype)))


def check(test):
    """Compare; False where a type or form is refused."""
    model = onnx.shape_inference.infer_shapes(test.model)
    try:
        module = OnnxModule(model).eval()
    except ModelError:
        return False
    for inputs, wanted in test.data_sets:
        if any(isinstance(value, list) for value in (*inputs, *wanted)):
            return False
        given = [tensor(value) for value in inputs]
        if any(value is None for value in given):
            return False
        with torch.no_grad():
            found = module(*given)
        for ours, theirs in zip(found if isinstance(found, tuple) else (found,), wanted, strict=True):
            same(test, ours, np.asarray(theirs))
    return True


def same(test, ours, theirs):
    coarse = theirs.dtype.name in ("bfloat16", "float16")
    if theirs.dtype.name in ("bfloat16", "int4", "uint4"):
        ours, theirs = ours.float(), theirs.astype(np.float32)
    assert tuple(ours.shape) == theirs.shape, test.name
    ours = ours.numpy()
    assert ours.dtype == theirs.dtype, test.name
    tolerance = {"rtol": 0.02, "atol": 0.01} if coarse else {"rtol": test.rtol, "atol": max(test.atol, 1e-6)}
    np.testing.assert_allclose(ours, theirs, err_msg=test.name, **tolerance)


@pytest.mark.parametrize("op", [op for op in OPERATORS if op not in UNTESTED])
def test_node_tests_of_onnx(cases, op):
    assert sum(check(test) for test in cases[op]) > 0, "no test of this operator could be run"
