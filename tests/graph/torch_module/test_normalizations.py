"""Normalizations in all their forms, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

from ortrim.graph.torch_module import OnnxModule

from .conftest import normal


def test_root_mean_square(one_node):
    """onnxruntime's own name of RMSNormalization."""
    inputs = [normal(2, 3, 8), normal(8)]
    model = one_node("SimplifiedLayerNormalization", inputs, constants=(1,), axis=-1, epsilon=1e-3)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("o0", 1, (2, 3, 8)))
    x = torch.from_numpy(inputs[0])
    wanted = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * torch.from_numpy(inputs[1])
    # onnx has no schema to check it by, so it is not loaded.
    torch.testing.assert_close(OnnxModule(model)(x), wanted)


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
