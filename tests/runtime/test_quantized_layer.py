"""Layers in int8: what is measured for the table."""

import numpy as np
import onnxruntime as ort
import pytest

from ortrim.runtime import Device
from ortrim.runtime.layer_model import control_model, layer_model
from ortrim.runtime.layers import LayerShape
from ortrim.runtime.node_profile import node_times

CONV = {"op": "Conv", "spatial": (8, 8), "kernel": (3, 3), "pads": (1, 1, 1, 1)}
SHAPES = [
    LayerShape(c_in=8, c_out=12, activation="Relu", dtype="int8", **CONV),
    LayerShape(c_in=8, c_out=8, group=8, activation="Clip", dtype="int8", **CONV),
    LayerShape("Gemm", 16, 10, (4,), dtype="int8"),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.op}-{shape.group}")
def test_the_models_run_on_integer_kernels(shape):
    for make in (layer_model, control_model):
        session = ort.InferenceSession(make(shape), providers=["CPUExecutionProvider"])
        x = session.get_inputs()[0]
        assert x.type == "tensor(float)"
        session.run(None, {x.name: np.zeros([size if isinstance(size, int) else 1 for size in x.shape], np.float32)})
    kinds = {time.op for time in node_times(layer_model(shape), Device.parse("cpu:threads=1"), runs=2)}
    assert any(kind.startswith("QLinear") or kind in ("QGemm", "MatMulIntegerToFloat") for kind in kinds), kinds
    assert "Conv" not in kinds


def test_float_and_integer_layers_are_not_the_same():
    one, other = (LayerShape(c_in=8, c_out=12, dtype=dtype, **CONV) for dtype in ("float32", "int8"))
    assert one != other
    assert layer_model(one) != layer_model(other)
