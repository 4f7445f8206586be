"""ONNX tensors and types as torch has them."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

from ...errors import ModelError

__all__ = ["as_array", "as_tensor", "declared", "integer_range", "numbers", "torch_type"]

_TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.BOOL: torch.bool,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    # torch computes little with these: inside the module they are the next wider signed type (64 bits: the same width).
    TensorProto.UINT16: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.UINT64: torch.int64,
    TensorProto.INT4: torch.int8,
    TensorProto.UINT4: torch.uint8,
}
_DECLARED = {
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
}
_RANGES = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-(2**15), 2**15 - 1),
    TensorProto.UINT16: (0, 2**16 - 1),
    TensorProto.INT32: (-(2**31), 2**31 - 1),
}


def torch_type(kind: int) -> torch.dtype:
    """The type that stands for an ONNX element type inside the module.

    Raises:
        ModelError: torch has none (text, complex numbers, 8-bit and 4-bit floats).
    """
    if kind not in _TYPES:
        name = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else kind
        raise ModelError(f"tensors of type {name} cannot become torch tensors")
    return _TYPES[kind]


def declared(kind: int) -> torch.dtype:
    """The type that a graph output of this ONNX element type has."""
    return _DECLARED[kind] if kind in _DECLARED else torch_type(kind)


def integer_range(kind: int) -> tuple[int, int] | None:
    """Smallest and largest value of an integer type that numbers are quantized to, or None."""
    return _RANGES.get(kind)


def as_tensor(tensor: onnx.TensorProto) -> Tensor:
    """The initializer's values, as a tensor of their own.

    Raises:
        ModelError: a type that torch lacks.
    """
    try:
        dtype = torch_type(tensor.data_type)
    except ModelError as error:
        raise ModelError(f"initializer {tensor.name!r}: {error}") from None
    array = numpy_helper.to_array(tensor)
    if dtype == torch.bfloat16:  # numpy has no such type: its bits go over
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    if tensor.data_type == TensorProto.UINT64:
        return torch.from_numpy(array.astype(np.int64))
    target = torch.empty(0, dtype=dtype).numpy().dtype
    return torch.from_numpy(np.array(array, dtype=target, order="C"))


def as_array(value: Tensor, kind: int) -> np.ndarray:
    """The tensor as an array of an ONNX element type."""
    wanted = onnx.helper.tensor_dtype_to_np_dtype(kind)
    value = value.detach().cpu()
    if kind == TensorProto.BFLOAT16:
        return value.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(wanted)
    if value.dtype == torch.bfloat16:
        value = value.float()
    return np.ascontiguousarray(value.numpy()).astype(wanted)


def numbers(value: Tensor) -> list[int]:
    """The entries of an operand (a scalar or a vector) as integers."""
    return [int(entry) for entry in value.reshape(-1).tolist()]
