"""Operators of one element, and those that move elements, in all their forms, against onnxruntime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from .conftest import ints, normal

RNG = np.random.default_rng(0)


PLAIN = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


NUMBERS = [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64, np.bool_]


@pytest.mark.parametrize("old", NUMBERS)
@pytest.mark.parametrize("new", NUMBERS)
def test_cast(agree_node, old, new):
    x = np.array([0, 1, 2.7, 100], old)
    agree_node("Cast", [x], to=helper.np_dtype_to_tensor_dtype(np.dtype(new)))
    agree_node("CastLike", [x, np.array([1], new)], opset=15)


REDUCTIONS = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"]


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [None, (1,), (-1, 0)])
def test_reduction(agree_node, kind, opset, keep, axes):
    x = np.abs(normal(2, 3, 4)) + 0.5
    as_input = opset >= 18 or (kind == "Sum" and opset >= 13)
    inputs = [x, ints(*axes)] if as_input and axes else [x]
    more = {"axes": axes} if axes and not as_input else {}
    agree_node(f"Reduce{kind}", inputs, constants=(1,), opset=opset, keepdims=keep, **more)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_argument(agree_node, op, last):
    x = np.float32([[1, 3, 3, 0], [2, 2, 0, 0]])
    for keep, axis in itertools.product((0, 1), (0, 1, -1)):
        agree_node(op, [x], axis=axis, keepdims=keep, select_last_index=last)


def test_top_k_and_sums(agree_node):
    x = np.float32([[1, 3, 3, 0, 2], [2, 2, 0, 0, 5]])
    for axis, largest in itertools.product((0, 1), (0, 1)):
        agree_node("TopK", [x, ints(2)], constants=(1,), outputs=2, axis=axis, largest=largest)
        agree_node("CumSum", [x, np.array(axis)], constants=(1,), exclusive=largest, reverse=axis)


@PLAIN
@given(data=st.data())
def test_slice(agree_node, data):
    shape = (4, 5, 6)
    axes = data.draw(st.permutations(range(-3, 3)).map(lambda p: list({a % 3: a for a in p[:2]}.values())))
    bounds = st.integers(-9, 9)
    starts, ends = [data.draw(st.tuples(*[bounds] * len(axes))) for _ in range(2)]
    steps = data.draw(st.tuples(*[st.sampled_from([-3, -2, -1, 1, 2, 3])] * len(axes)))
    operands = [ints(*starts), ints(*ends), ints(*axes), ints(*steps)]
    agree_node("Slice", [normal(*shape), *operands], constants=(1, 2, 3, 4))


def test_old_forms(agree_node):
    """Operands that were attributes."""
    x = normal(2, 1, 6)
    agree_node("Slice", [x], opset=9, starts=[1, -3], ends=[2, 100], axes=[0, 2])
    agree_node("Squeeze", [x], opset=11, axes=[1])
    agree_node("Unsqueeze", [x], opset=11, axes=[0, 3])
    agree_node("Split", [x], opset=11, outputs=2, axis=2, split=[2, 4])
    agree_node("Clip", [x], opset=7, min=-0.5, max=0.25)
    agree_node("Clip", [x], opset=7, max=0.25)
    agree_node("TopK", [x], opset=9, outputs=2, axis=2, k=2)
    agree_node("Dropout", [x], opset=7, ratio=0.5)
    agree_node("Reshape", [x, ints(0, -1)], opset=7, constants=(1,))


def test_new_forms(agree_node):
    x = normal(2, 1, 6)
    agree_node("Squeeze", [x, ints(1)], constants=(1,), opset=13)
    agree_node("Squeeze", [x], opset=13)
    agree_node("Unsqueeze", [x, ints(-1, 1)], constants=(1,), opset=13)
    agree_node("Split", [normal(2, 7)], outputs=4, opset=18, axis=1, num_outputs=4)
    agree_node("Split", [x, ints(1, 5)], constants=(1,), outputs=2, opset=13, axis=-1)
    for bounds in ((np.float32(-0.5), np.float32(0.5)), (None, np.float32(0.5)), (np.float32(-0.5),), ()):
        agree_node("Clip", [x, *bounds], constants=(1, 2), opset=13)
        agree_node("Clip", [x, *bounds], opset=13)  # bounds that are computed


@pytest.mark.parametrize("target", [(0, -1), (3, 0, 4), (-1,), (2, 2, 3, 2), (24, 1)])
def test_reshape(agree_node, target):
    x = normal(2, 3, 4) if target != (3, 0, 4) else normal(3, 2, 4)
    agree_node("Reshape", [x, ints(*target)], constants=(1,))
    agree_node("Reshape", [x, ints(*target)])  # a target that is computed


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Equal", "Less", "GreaterOrEqual"])
def test_arithmetic(agree_node, op, dtype):
    a, b = np.array([[7, -7, 8], [5, -6, 3]], dtype), np.array([3, -3, -2], dtype)
    fmod = {"fmod": 1} if op == "Mod" and dtype == np.float32 else {}
    agree_node(op, [a, b], **fmod)
    agree_node(op, [a, b], constants=(1,), **fmod)


def test_arithmetic_of_mixed_kinds(agree_node):
    agree_node("Mod", [ints(7, -7), ints(3, 3)], fmod=1)
    agree_node("Pow", [np.float32([1, 2, 3]), ints(2, 3, 2)])
    agree_node("Pow", [np.float32([1, 2, 3]), np.float32(0.5)], constants=(1,))
    agree_node("Where", [np.array([True, False]), normal(3, 2), normal(2)])
    agree_node("Mean", [normal(3, 2), normal(2), normal(3, 1)])
    agree_node("BitShift", [np.uint8([200, 3]), np.uint8([1, 2])], direction="LEFT")


@pytest.mark.parametrize("slope", [(3, 1, 1), (1,), (3, 4, 5), (5,), (1, 1, 5)])
def test_prelu(agree_node, slope):
    agree_node("PRelu", [normal(2, 3, 4, 5), normal(*slope)], constants=(1,))


ACTIVATIONS = {
    **{op: [{}] for op in ("Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "HardSwish", "Round", "Sign")},
    **{op: [{}, {"alpha": 0.3}] for op in ("Celu", "Elu", "LeakyRelu", "ThresholdedRelu")},
    "HardSigmoid": [{}, {"alpha": 1 / 6}, {"alpha": 0.4, "beta": 0.1}],
    "Selu": [{}, {"alpha": 0.7, "gamma": 2.0}],
    "Shrink": [{}, {"bias": 0.2, "lambd": 0.6}],
    "Gelu": [{}, {"approximate": "tanh"}],
    "Mish": [{}],
}


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activation(agree_node, op):
    x = np.concatenate([normal(20) * 2, np.float32([0, -0.5, 0.5, 1.5, 2.5])])
    for more in ACTIVATIONS[op]:
        agree_node(op, [x], opset=20, **more)


def test_gather_and_scatter(agree_node):
    x, places = normal(4, 5, 6), np.array([[0, -1], [2, -3]])
    for axis in (0, 1, -1):
        agree_node("Gather", [x, places], axis=axis)
        agree_node("Gather", [x, places], constants=(1,), axis=axis)
        agree_node("Gather", [x, np.array(-2)], constants=(1,), axis=axis)
        agree_node("Gather", [x, np.array(-2)], axis=axis)
        agree_node("GatherElements", [x, np.array([[[0, -1], [1, 2]]])], axis=axis)
        agree_node("ScatterElements", [x, np.array([[[0, -1], [1, 2]]]), normal(1, 2, 2)], axis=axis)
        agree_node("ScatterElements", [x, np.array([[[0, 0], [1, 1]]]), normal(1, 2, 2)], axis=axis, reduction="add")
    agree_node("GatherND", [x, np.array([[0, 1], [-1, -2]])])
    agree_node("GatherND", [x, np.array([[[1]], [[0]], [[-1]], [[2]]])], batch_dims=1)
    agree_node("ScatterND", [x, np.array([[0, 1], [-1, -2]]), normal(2, 6)])
    for reduction in ("add", "mul", "max", "min"):
        more = {"reduction": reduction, "opset": 18}
        agree_node("ScatterND", [x, np.array([[0, 1], [0, 1], [3, 3]]), normal(3, 6)], **more)


def test_data_dependent(agree_node):
    x = np.float32([[0, 1, 0], [2, 0, -3]])
    agree_node("NonZero", [x])
    agree_node("Compress", [x, np.array([True, False, True])], axis=1)
    agree_node("OneHot", [np.array([[0, -1], [2, 1]]), ints(3), np.float32([-1, 4])], constants=(1,), axis=1)
    agree_node("Unique", [np.float32([3, 1, 3, 2])], outputs=4)
    boxes = np.float32([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3]]])
    limits = [ints(2), np.float32([0.5]), np.float32([0.2])]
    agree_node("NonMaxSuppression", [boxes, np.float32([[[0.9, 0.8, 0.3]]]), *limits], constants=(2, 3, 4))
    agree_node("NonMaxSuppression", [boxes, np.float32([[[0.9, 0.8, 0.3]]]), *limits], center_point_box=1)


def test_reading_at_places(agree_node):
    for mode, align in itertools.product(("bilinear", "nearest"), (0, 1)):
        for padding in ("zeros", "border", "reflection"):
            more = {"mode": mode, "align_corners": align, "padding_mode": padding}
            agree_node("GridSample", [normal(2, 3, 5, 6), normal(2, 4, 4, 2) * 0.7], opset=16, tolerance=1e-4, **more)
    regions = np.float32([[0, 0, 4, 4], [1, 1, 3, 5]])
    more = {"output_height": 2, "output_width": 3, "spatial_scale": 0.5}
    for samples in (0, 2):
        agree_node("RoiAlign", [normal(2, 3, 8, 8), regions, ints(0, 1)], opset=16, sampling_ratio=samples, **more)


@pytest.mark.parametrize("opset", [10, 13, 21])
def test_quantization(agree_node, opset):
    x = normal(2, 3, 4) * 3
    agree_node("QuantizeLinear", [x, np.float32(0.05), np.uint8(120)], constants=(1, 2), opset=opset)
    q = np.int8([[1, -3, 100], [-128, 127, 5]])
    agree_node("DequantizeLinear", [q, np.float32(0.05), np.int8(4)], constants=(1, 2), opset=opset)
    if opset >= 13:
        scales, zeros = np.float32([0.02, 0.05, 0.1]), np.int8([1, -2, 3])
        agree_node("QuantizeLinear", [x, scales, zeros], constants=(1, 2), opset=opset, axis=1)
        agree_node("DequantizeLinear", [q, scales, zeros], constants=(1, 2), opset=opset, axis=1)
    if opset >= 21:
        scales = np.abs(normal(2, 3, 2)) * 0.1 + 0.02
        agree_node("QuantizeLinear", [x, scales], opset=21, axis=2, block_size=2)
    agree_node("DynamicQuantizeLinear", [x], opset=11, outputs=3)
