"""Operators in all their forms, against onnxruntime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from ortrim.graph.torch_module import OnnxModule

RNG = np.random.default_rng(0)
PLAIN = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


def ints(*values):
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "window",
    [
        {},
        {"pads": (1, 1)},
        {"pads": (2, 0)},
        {"pads": (0, 3), "strides": 2},
        {"auto_pad": "SAME_UPPER", "strides": 2},
        {"auto_pad": "SAME_LOWER", "strides": 2},
        {"auto_pad": "VALID"},
        {"dilations": 2, "pads": (2, 1)},
    ],
    ids=str,
)
@pytest.mark.parametrize("group", [1, 2])
def test_conv(agree_node, rank, window, group):
    more = spread(window, rank)
    x, weight, bias = normal(2, 4, *(9, 8, 7)[:rank]), normal(6, 4 // group, *(3, 2, 3)[:rank]), normal(6)
    agree_node("Conv", [x, weight, bias], constants=(1, 2), group=group, **more)


def spread(window, rank):
    """Numbers for one axis, for all axes."""
    more = dict(window)
    for key in ("strides", "dilations", "output_padding"):
        if key in more:
            more[key] = [more[key]] * rank
    if "pads" in more:
        begin, end = more["pads"]
        more["pads"] = [begin] * rank + [end] * rank
    return more


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(
    "window",
    [
        {},
        {"strides": 2, "pads": (1, 1)},
        {"strides": 2, "pads": (1, 0)},
        {"strides": 3, "output_padding": 2, "pads": (0, 1)},
        {"strides": 2, "output_padding": 1, "pads": (1, 1)},
        {"strides": 2, "auto_pad": "SAME_UPPER"},
        {"strides": 2, "auto_pad": "SAME_LOWER"},
        {"dilations": 2, "pads": (1, 2)},
    ],
    ids=str,
)
@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(agree_node, rank, window, group):
    x, weight, bias = normal(2, 4, *(5, 6)[:rank]), normal(4, 3, *(3, 4)[:rank]), normal(3 * group)
    agree_node("ConvTranspose", [x, weight, bias], constants=(1, 2), group=group, **spread(window, rank))


@pytest.mark.parametrize("size", [(9, 11), (10, 12)])
def test_conv_transpose_to_a_shape(agree_node, size):
    more = {"strides": [2, 2], "output_shape": list(size)}
    agree_node("ConvTranspose", [normal(2, 3, 5, 6), normal(3, 4, 3, 3)], constants=(1,), **more)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize(
    "window",
    [
        {},
        {"strides": 2},
        {"strides": 2, "pads": (1, 1)},
        {"strides": 2, "pads": (0, 1)},
        {"strides": 3, "pads": (1, 0)},
        {"auto_pad": "SAME_UPPER", "strides": 2},
        {"auto_pad": "SAME_LOWER", "strides": 2},
        {"dilations": 2, "pads": (1, 1)},
    ],
    ids=str,
)
def test_pool(agree_node, op, counted, ceil, window):
    if ceil and "auto_pad" in window:
        pytest.skip("automatic padding leaves nothing to round")
    more = spread(window, 2) | {"kernel_shape": [3, 2], "ceil_mode": ceil}
    more |= {"count_include_pad": counted} if op == "AveragePool" else {}
    if op == "AveragePool" and counted and ceil and window.get("pads", (0, 0)) != (0, 0) and "strides" in window:
        pytest.skip("onnxruntime divides by windows that reach past the padding, onnx and torch do not")
    agree_node(op, [normal(2, 3, 9, 10)], opset=19, **more)


def test_positions_of_the_largest(agree_node):
    more = {"kernel_shape": [3, 2], "strides": [2, 2], "outputs": 2}
    for pads, order in itertools.product(([0] * 4, [1, 0, 0, 1]), (0, 1)):
        agree_node("MaxPool", [normal(2, 3, 7, 8)], pads=pads, storage_order=order, **more)


NUMBERS = [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64, np.bool_]


@pytest.mark.parametrize("old", NUMBERS)
@pytest.mark.parametrize("new", NUMBERS)
def test_cast(agree_node, old, new):
    x = np.array([0, 1, 2.7, 100], old)
    agree_node("Cast", [x], to=helper.np_dtype_to_tensor_dtype(np.dtype(new)))
    agree_node("CastLike", [x, np.array([1], new)], opset=15)


def test_root_mean_square(one_node):
    """onnxruntime's own name of RMSNormalization."""
    inputs = [normal(2, 3, 8), normal(8)]
    model = one_node("SimplifiedLayerNormalization", inputs, constants=(1,), axis=-1, epsilon=1e-3)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("o0", 1, (2, 3, 8)))
    x = torch.from_numpy(inputs[0])
    wanted = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * torch.from_numpy(inputs[1])
    # onnx has no schema to check it by, so it is not loaded.
    torch.testing.assert_close(OnnxModule(model)(x), wanted)


def test_global_pools(agree_node):
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        agree_node(op, [normal(2, 3, 4, 5)])


def test_lp_pool(agree_node):
    agree_node("LpPool", [normal(2, 3, 7, 8)], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 0, 1], p=3)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_softmax(agree_node, op, opset, axis):
    more = {} if axis is None else {"axis": axis}
    agree_node(op, [normal(2, 3, 4)], opset=opset, **more)


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalization(agree_node, opset):
    vectors = [normal(3), normal(3) + 1, normal(3), np.abs(normal(3)) + 0.5]
    agree_node("BatchNormalization", [normal(2, 3, 4, 5), *vectors], constants=range(1, 5), opset=opset, epsilon=1e-3)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(agree_node, opset):
    size = 2 if opset == 18 else 6
    inputs = [normal(2, 6, 4, 5), normal(size), normal(size) + 1]
    agree_node("GroupNormalization", inputs, constants=(1, 2), opset=opset, num_groups=2, tolerance=1e-4)


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("outputs", [1, 3])
def test_layer_normalization(agree_node, axis, outputs):
    sizes = (2, 3, 4, 5)[axis:]
    inputs = [normal(2, 3, 4, 5), normal(*sizes), normal(*sizes) + 1]
    agree_node("LayerNormalization", inputs, constants=(1, 2), axis=axis, outputs=outputs, epsilon=1e-3)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response(agree_node, size):
    agree_node("LRN", [normal(2, 7, 3, 3)], size=size, alpha=0.5, beta=0.6, bias=1.5)


def test_other_normalizations(agree_node):
    agree_node("InstanceNormalization", [normal(2, 3, 4, 5), normal(3), normal(3) + 1], constants=(1, 2))
    agree_node("LpNormalization", [normal(2, 3, 4)], axis=1, p=1)
    agree_node("MeanVarianceNormalization", [normal(2, 3, 4, 5)], axes=[0, 2])


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


COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("scales", [(2.0, 2.0), (0.6, 1.7), (3.0, 0.5), (1.3, 1.0)], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_by_scales(agree_node, coordinates, scales, mode):
    if coordinates == "half_pixel_symmetric" and scales == (0.6, 1.7):
        scales = (0.6, 1.6)  # the middle of 7 entries is the middle of 11: which way it rounds is chance
    opset = 19 if coordinates == "half_pixel_symmetric" else 13
    inputs = [normal(2, 3, 6, 7), None, np.float32([1, 1, *scales])]
    more = {"mode": mode, "coordinate_transformation_mode": coordinates}
    for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil") if mode == "nearest" else (None,):
        more |= {"nearest_mode": nearest} if nearest else {}
        agree_node("Resize", inputs, constants=(2,), opset=opset, **more)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [(12, 14), (4, 10), (1, 1), (6, 7)])
def test_resize_to_sizes(agree_node, mode, sizes):
    for coordinates in ("half_pixel", "align_corners", "pytorch_half_pixel", "asymmetric"):
        inputs = [normal(2, 3, 6, 7), None, None, ints(2, 3, *sizes)]
        more = {"mode": mode, "coordinate_transformation_mode": coordinates}
        agree_node("Resize", inputs, constants=(3,), opset=13, **more)
    inputs = [normal(2, 3, 6, 7), None, None, ints(*sizes)]
    agree_node("Resize", inputs, constants=(3,), opset=18, mode=mode, axes=[2, 3], exclude_outside=int(mode == "cubic"))


@pytest.mark.parametrize("antialias", ["linear", "cubic"])
def test_resize_against_aliases(agree_node, antialias):
    inputs = [normal(1, 2, 12, 15), None, None, ints(1, 2, 5, 6)]
    agree_node("Resize", inputs, constants=(3,), opset=18, mode=antialias, antialias=1, exclude_outside=1)


def test_resize_of_a_region(agree_node):
    region = np.float32([0, 0, 0.2, -0.1, 1, 1, 0.8, 1.2])
    inputs = [normal(1, 2, 6, 7), region, None, ints(1, 2, 4, 5)]
    more = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.0, "mode": "linear"}
    agree_node("Resize", inputs, constants=(1, 3), opset=13, **more)


@pytest.mark.parametrize("opset", [7, 9, 10])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(agree_node, opset, mode):
    scales = np.float32([1, 1, 2, 3])
    if opset == 7:
        agree_node("Upsample", [normal(2, 3, 4, 5)], opset=7, mode=mode, scales=scales.tolist())
    else:
        op = "Upsample" if opset == 9 else "Resize"
        agree_node(op, [normal(2, 3, 4, 5), scales], constants=(1,), opset=opset, mode=mode)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize(
    "pads", [(0, 0, 1, 2, 0, 0, 2, 1), (0, 1, 0, 0, 0, 2, 0, 0), (0, 0, 1, -2, 0, 0, -1, 1)], ids=str
)
def test_pad(agree_node, mode, pads):
    if mode == "wrap" and min(pads) < 0:
        pytest.skip("onnxruntime wraps before it cuts")
    inputs = [normal(2, 3, 5, 6), ints(*pads)] + ([np.float32(1.5)] if mode == "constant" else [])
    agree_node("Pad", inputs, constants=(1, 2), opset=19, mode=mode)
    if mode != "wrap":
        agree_node("Pad", [normal(2, 3, 5, 6)], opset=10, mode=mode, pads=pads)


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


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "bhid,bhjd->bhij", "ij->ji", "bi,bi->b", "...ij,jk->...ik"])
def test_einsum(agree_node, equation):
    sizes = dict(zip("bhijkd", (2, 3, 4, 5, 6, 7), strict=True))
    terms = equation.split("->")[0].replace("...", "bh").split(",")
    agree_node("Einsum", [normal(*(sizes[letter] for letter in term)) for term in terms], equation=equation)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 4)), ((2, 5, 2, 3), (5, 3, 4)), ((3,), (2, 3, 4)), ((2, 3), (3,))])
def test_matmul(agree_node, shapes):
    agree_node("MatMul", [normal(*shape) for shape in shapes])


@pytest.mark.parametrize("bias", [None, (4,), (2, 4), (2, 1), (1,)])
def test_gemm(agree_node, bias):
    for trans_a, trans_b, alpha in itertools.product((0, 1), (0, 1), (1.0, 0.5)):
        a, b = normal(*((3, 2) if trans_a else (2, 3))), normal(*((4, 3) if trans_b else (3, 4)))
        more = {"transA": trans_a, "transB": trans_b, "alpha": alpha, "beta": 2 * alpha}
        agree_node("Gemm", [a, b] + ([normal(*bias)] if bias else []), constants=(1, 2), **more)


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


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(agree_node, mode):
    agree_node("DepthToSpace", [normal(2, 12, 3, 4)], blocksize=2, mode=mode)
    agree_node("SpaceToDepth", [normal(2, 3, 4, 6)], blocksize=2)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    "form", ["plain", "states", "lengths", "clip", "activations", "before", "no bias", "peepholes"]
)
def test_recurrent(agree_node, kind, direction, form):
    gates, hidden, size, steps, batch = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 4, 3, 5, 2
    n = 2 if direction == "bidirectional" else 1
    w, r = normal(n, gates * hidden, size), normal(n, gates * hidden, hidden)
    inputs = [normal(steps, batch, size), w, r, normal(n, 2 * gates * hidden), None, None, None, None]
    more = {"direction": direction, "hidden_size": hidden, "outputs": 3 if kind == "LSTM" else 2}
    if form == "no bias":
        inputs[3] = None
    elif form == "states":
        inputs[5:7] = normal(n, batch, hidden), normal(n, batch, hidden) * 0.5
    elif form == "lengths":
        inputs[4] = np.int32([3, 5])
    elif form == "clip":
        more["clip"] = 0.7
    elif form == "activations":
        names = {"LSTM": ["HardSigmoid", "Relu", "Tanh"], "GRU": ["HardSigmoid", "Softsign"], "RNN": ["Relu"]}[kind]
        more |= {"activations": names * n}
    elif form == "before":
        if kind != "GRU":
            pytest.skip("of GRU only")
        more["linear_before_reset"] = 1
    elif form == "peepholes":
        if kind != "LSTM":
            pytest.skip("of LSTM only")
        inputs[7] = normal(n, 3 * hidden)
    if kind != "LSTM":
        inputs = inputs[:6]
    while inputs[-1] is None:
        inputs.pop()
    agree_node(kind, inputs, constants=(1, 2, 3, 7), opset=14, tolerance=1e-4, **more)


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


@pytest.mark.parametrize("form", ["plain", "mask", "hidden", "causal", "few heads", "flat", "softcap", "past"])
def test_attention(agree_node, form):
    q, k, v = normal(2, 4, 5, 8), normal(2, 4, 6, 8), normal(2, 4, 6, 7)
    inputs, more = [q, k, v], {"outputs": 1}
    match form:
        case "mask":
            inputs.append(normal(5, 6))
        case "hidden":
            inputs.append(RNG.random((2, 1, 5, 6)) > 0.4)
        case "causal":
            more["is_causal"] = 1
        case "few heads":
            inputs = [q, k[:, :2], v[:, :2]]
        case "flat":
            inputs = [normal(2, 5, 32), normal(2, 6, 32), normal(2, 6, 28)]
            more |= {"q_num_heads": 4, "kv_num_heads": 4, "scale": 0.4}
        case "softcap":
            more["softcap"] = 2.0
        case "past":
            inputs += [None, normal(2, 4, 3, 8), normal(2, 4, 3, 7)]
            more["outputs"] = 3
    agree_node("Attention", inputs, opset=23, **more)
