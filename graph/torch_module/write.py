"""What the module learned, back into the graph."""

from __future__ import annotations

import os

import numpy as np
import onnx
from onnx import numpy_helper
from torch import nn

from ...errors import ModelError
from ..load import ensure_loaded
from ..protos import copy_without_weights
from ..stored import stored_weights
from .module import OnnxModule
from .stored import latents
from .values import as_array

__all__ = ["write_back"]

_DATA = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "raw_data")


def write_back(source: str | os.PathLike[str] | onnx.ModelProto, module: nn.Module) -> onnx.ModelProto:
    """A copy of the graph with the module's parameters and statistics in the initializers of the same names.

    Names, types and shapes stay, and so does the data of what did not change. Weights that the file holds as integers
    are rounded to them.

    Raises:
        ModelError: the module was made of another model; the message names the initializer.
    """
    if not isinstance(module, OnnxModule):
        raise ModelError(f"write_back takes a module that to_torch made, got {type(module).__name__}")
    model = ensure_loaded(source)
    values, moved = module.initializers, module.learned
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    quantized = {item.tensor.name: item for item in latents(model, stored_weights(model)).values()}
    for name in sorted(moved):
        if name not in tensors or tuple(tensors[name].dims) != tuple(values[name].shape):
            raise ModelError(f"the module's {name!r} is no initializer of this model: it was made of another one")
    out = copy_without_weights(model)
    for tensor in model.graph.initializer:
        copy = out.graph.initializer.add()
        copy.CopyFrom(tensor)
        if tensor.name not in moved:
            continue
        value = values[tensor.name]
        if tensor.name in module.quantized:
            array = quantized[tensor.name].integers(value)
            array = array.astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        else:
            array = as_array(value, tensor.data_type)
        _replace(copy, array)
    return out


def _replace(tensor: onnx.TensorProto, array: np.ndarray) -> None:
    """Put the values in place, unless they are there already."""
    if numpy_helper.to_array(tensor).tobytes() == array.tobytes():
        return
    for field in _DATA:
        tensor.ClearField(field)
    tensor.raw_data = numpy_helper.from_array(array).raw_data
