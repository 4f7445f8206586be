"""Convolutions, pools and resizing in all their forms, against onnxruntime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from .conftest import ints, normal


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


def test_global_pools(agree_node):
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        agree_node(op, [normal(2, 3, 4, 5)])


def test_lp_pool(agree_node):
    agree_node("LpPool", [normal(2, 3, 7, 8)], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 0, 1], p=3)


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


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(agree_node, mode):
    agree_node("DepthToSpace", [normal(2, 12, 3, 4)], blocksize=2, mode=mode)
    agree_node("SpaceToDepth", [normal(2, 3, 4, 6)], blocksize=2)
