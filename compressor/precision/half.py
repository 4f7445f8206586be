"""A net in fp16, for GPUs: by onnxruntime's own converter, inputs and outputs as they were."""

from __future__ import annotations

import warnings

import onnx
from onnx import shape_inference

from .prepare import prepare

__all__ = ["to_half"]


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in float16; inputs and outputs keep names and types through Casts.

    Raises:
        ModelError: quantized already.
    """
    # Slow to import, and needed for this alone.
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    prepared = prepare(model)
    inferred = shape_inference.infer_shapes(prepared)
    with warnings.catch_warnings():  # of weights that are too small for fp16: they become its smallest number
        warnings.simplefilter("ignore")
        out = convert_float_to_float16(inferred, keep_io_types=True, disable_shape_infer=True)
    ONNXModel(out).topological_sort()  # the Casts of inputs come last
    del out.graph.value_info[:]  # says float32 of what is float16 now
    return out
