"""Whether a model can be read at all: what onnx.checker tests, and what it leaves to those who read the weights."""

from __future__ import annotations

import math

import onnx
from onnx import checker

from ..errors import ModelError
from .protos import opset

__all__ = ["check_content", "check_valid", "line"]

OLDEST_OPSET = 7  # before it, broadcasting and BatchNormalization meant something else
_KINDS = {"tensor_type", "sequence_type"}
_TYPES = {*onnx.TensorProto.DataType.values()} - {onnx.TensorProto.UNDEFINED}


def line(error: BaseException) -> str:
    """The error's message on one line, cut where it is long."""
    return " ".join(str(error).split())[:300]


def check_content(model: onnx.ModelProto, name: str) -> None:
    """What has to be there, of types that are known, and weights as large as their shapes say.

    Raises:
        ModelError: anything else; `name` is for the message.
    """
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{name}: not an ONNX model: it has no nodes or no outputs")
    if opset(model) < OLDEST_OPSET:
        raise ModelError(f"{name}: operator set {opset(model)}; export it with {OLDEST_OPSET} or newer")
    if opset(model) > onnx.defs.onnx_opset_version():
        raise ModelError(
            f"{name}: operator set {opset(model)}; the installed onnx {onnx.__version__} knows up to "
            f"{onnx.defs.onnx_opset_version()}: upgrade it, or export with an older operator set"
        )
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.WhichOneof("value")
        if kind not in _KINDS:
            raise ModelError(f"{name}: {value.name!r} is of the kind {kind or 'unknown'}, which cannot be read")
        if kind == "tensor_type" and value.type.tensor_type.elem_type not in _TYPES:
            raise ModelError(f"{name}: {value.name!r} is of an unknown type")
    for tensor in model.graph.initializer:
        if tensor.data_type not in _TYPES:
            raise ModelError(f"{name}: the initializer {tensor.name!r} is of an unknown type")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        size = math.prod(tensor.dims) * dtype.itemsize
        if tensor.HasField("raw_data") and dtype.isbuiltin and len(tensor.raw_data) != size:  # 4-bit types are packed
            raise ModelError(f"{name}: the initializer {tensor.name!r} holds more or less than its shape says")


def check_valid(model: onnx.ModelProto | str, name: str) -> None:
    """What onnx.checker tests, of a model or of the file at a path.

    Raises:
        ModelError: it is not valid ONNX; `name` is for the message.
    """
    try:
        checker.check_model(model)
    except (checker.ValidationError, ValueError) as error:
        raise ModelError(f"{name}: invalid ONNX: {line(error)}") from error
