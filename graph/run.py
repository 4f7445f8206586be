"""Run a model in onnxruntime as the graph is written: its fusions round differently."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import EncodeError
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state

from ..errors import ModelError
from .check import line

__all__ = ["example_inputs", "run_as_written"]

# onnxruntime's exceptions share no class of their own.
_RUNTIME_ERRORS = tuple(
    kind for kind in vars(onnxruntime_pybind11_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)


def run_as_written(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name.

    Raises:
        ModelError: onnxruntime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = _session(model, options)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except (*_RUNTIME_ERRORS, RuntimeError, ValueError) as error:
        raise ModelError(f"onnxruntime cannot run the model: {line(error)}") from error


def _session(model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """From memory, or where a message would be over 2 GB from a file with its weights beside it."""
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except EncodeError:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)  # writing moves the weights out of the message
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            onnx.save_model(copy, str(file), save_as_external_data=True)
            del copy
            return onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])


def example_inputs(model: onnx.ModelProto, seed: int = 0, free: int = 1) -> dict[str, np.ndarray]:
    """Random inputs: floats from a normal distribution, integers 0 or 1; sizes that are not fixed become `free`.

    Raises:
        ModelError: an input that is no tensor.
    """
    generator = np.random.default_rng(seed)
    inputs = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else free for dim in kind.shape.dim]
        if not kind.elem_type:
            raise ModelError(f"input {value.name!r} is not a tensor: say what to run on (`inputs`)")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if np.issubdtype(dtype, np.floating) or kind.elem_type == TensorProto.BFLOAT16:
            inputs[value.name] = generator.standard_normal(shape).astype(dtype)
        else:
            inputs[value.name] = generator.integers(0, 2, shape).astype(dtype)
    return inputs
