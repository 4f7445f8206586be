"""A model to a file, or to two where protobuf cannot hold it in one message."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import EncodeError
from onnx import TensorProto, numpy_helper

from ..graph import weight_files
from ..graph.protos import copy_without_weights
from .files import check_output, write_whole

__all__ = ["model_bytes", "write_model"]

_ALIGNMENT = 4096
"""Bytes that weights in a file of their own are aligned to, so that they can be mapped into memory."""
_INSIDE = 1024
"""Bytes up to which a weight stays in the message: shapes, scales and the like."""


def write_model(path: Path, model: onnx.ModelProto, *, overwrite: bool, limit: int | None = None) -> tuple[Path, ...]:
    """Write the model whole or not at all; over 2 GB (or `limit` bytes) its weights go to `NAME.data` beside it.

    Returns:
        The files that were written, the model first.

    Raises:
        OutputError: a file cannot be written, or exists and `overwrite` is False.
    """
    try:
        content = model.SerializeToString()
    except EncodeError:
        content = None
    if content is not None and (limit is None or len(content) <= limit):
        return (write_whole(path, content, overwrite=overwrite),)
    data = path.with_name(f"{path.name}.data")
    check_output(data, overwrite)
    weights = [tensor for tensor in model.graph.initializer if tensor.ByteSize() > _INSIDE]
    outside = {tensor.name for tensor in weights}
    bare = copy_without_weights(model)
    offset = 0
    for tensor in model.graph.initializer:
        made = bare.graph.initializer.add()
        if tensor.name not in outside:
            made.CopyFrom(tensor)
            continue
        length = len(_raw(tensor))
        offset += -offset % _ALIGNMENT
        made.name, made.data_type, made.data_location = tensor.name, tensor.data_type, TensorProto.EXTERNAL
        made.dims.extend(tensor.dims)
        for key, value in (("location", data.name), ("offset", offset), ("length", length)):
            made.external_data.add(key=key, value=str(value))
        offset += length

    def weights_to(file: BinaryIO) -> None:
        for tensor in weights:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            file.write(_raw(tensor))

    write_whole(data, weights_to, overwrite=overwrite)  # first, so that the model never names what is not there
    return write_whole(path, bare.SerializeToString(), overwrite=overwrite), data


def _raw(tensor: TensorProto) -> bytes:
    return tensor.raw_data if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).tobytes()


def model_bytes(path: Path) -> int:
    """Size of a model's file and of those that hold its weights."""
    return path.stat().st_size + sum(file.stat().st_size for file in weight_files(path))
