"""Whether int8 layers are exact here.

x86 processors without VNNI add the products of two neighbouring bytes in 16 bits, and what does not fit is cut off: two
activations of 255 with weights of 127 give 32,767, not 64,770. With weights of 7 bits nothing is cut off.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from ..recovery.activations import open_session, outputs_of

__all__ = ["saturates", "weight_bits"]

_CHANNELS = 16


def weight_bits() -> int:
    """Bits that int8 weights may use on this machine's processor: 8, or 7 where sums would be cut off."""
    return 7 if saturates() else 8


@cache
def saturates() -> bool:
    """Whether onnxruntime on this processor cuts sums of large products off: a convolution of extremes is run."""
    x = np.ones((1, _CHANNELS, 4, 4), np.float32)
    session = open_session(_extremes(), 1)
    (found,) = outputs_of(session, ["y"], {"x": x}).values()
    return not np.allclose(found, _CHANNELS, rtol=0.05)


def _extremes() -> onnx.ModelProto:
    """A 1x1 convolution in QDQ form that adds up its channels; a one is 255 in uint8, and each weight 127 in int8."""
    constants = {
        "step": np.float32(1 / 255),
        "wide": np.float32(_CHANNELS / 255),
        "zero": np.uint8(0),
        "w": np.full((_CHANNELS, _CHANNELS, 1, 1), 127, np.int8),
        "steps": np.full(_CHANNELS, 1 / 127, np.float32),
        "zeros": np.zeros(_CHANNELS, np.int8),
    }
    nodes = [
        make_node("QuantizeLinear", ["x", "step", "zero"], ["x8"]),
        make_node("DequantizeLinear", ["x8", "step", "zero"], ["xf"]),
        make_node("DequantizeLinear", ["w", "steps", "zeros"], ["wf"], axis=0),
        make_node("Conv", ["xf", "wf"], ["c"]),
        make_node("QuantizeLinear", ["c", "wide", "zero"], ["c8"]),
        make_node("DequantizeLinear", ["c8", "wide", "zero"], ["y"]),
    ]
    shape = [1, _CHANNELS, 4, 4]
    graph = make_graph(
        nodes,
        "extremes",
        [make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=9)
