"""The last touches on a model that goes out: what onnxruntime wants, what a reader of the file wants to know."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import checker, numpy_helper

from ..errors import VerificationError
from .protos import captured, copy_without_weights, weights_as_inputs

__all__ = ["finish"]

TINY = 1e-20
"""Weights below this are set to zero: products of them are denormal numbers, which slow a CPU down many times
(onnxruntime issues 5472 and 6865), and nothing that float32 keeps depends on them."""
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
_COPY = re.compile(r"(.+)__\d+$")


def finish(model: onnx.ModelProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """A copy fit to be written: tiny weights zero, equal copies of a weight shared again, provenance in the header.

    Args:
        metadata: key -> text, added to `metadata_props`; keys that are there already are replaced.

    Raises:
        VerificationError: onnx.checker refuses the result.
    """
    out = copy_without_weights(model)
    weights = [_without_tiny(tensor) for tensor in model.graph.initializer]
    replaced, kept = _share(weights, {value.name for value in out.graph.output}.union(*map(captured, out.graph.node)))
    out.graph.initializer.extend(kept)
    for node in out.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = replaced.get(name, name)
    properties = {item.key: item.value for item in out.metadata_props} | dict(metadata)
    onnx.helper.set_model_props(out, properties)
    try:
        checker.check_model(weights_as_inputs(out), full_check=True)
    except (checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(f"the slim model is not valid ONNX: {' '.join(str(error).split())[:300]}") from error
    return out


def _without_tiny(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type not in _FLOATS:
        return tensor
    array = numpy_helper.to_array(tensor)
    tiny = (np.abs(array) < TINY) & (array != 0)
    return numpy_helper.from_array(np.where(tiny, 0, array).astype(array.dtype), tensor.name) if tiny.any() else tensor


def _share(tensors: list[onnx.TensorProto], fixed: set[str]) -> tuple[dict[str, str], list[onnx.TensorProto]]:
    """Copies that `load` made (`NAME__2`) and that are still equal to NAME go back to it; `fixed` names stay."""
    by_name = {tensor.name: tensor for tensor in tensors}
    replaced: dict[str, str] = {}
    for name in sorted(by_name.keys() - fixed):  # NAME before NAME__2 before NAME__2__2
        match = _COPY.match(name)
        first = replaced.get(match.group(1), match.group(1)) if match else None
        if first in by_name and _equal(by_name[first], by_name[name]):
            replaced[name] = first
    return replaced, [tensor for tensor in tensors if tensor.name not in replaced]


def _equal(a: onnx.TensorProto, b: onnx.TensorProto) -> bool:
    if (a.data_type, list(a.dims)) != (b.data_type, list(b.dims)):
        return False
    return numpy_helper.to_array(a).tobytes() == numpy_helper.to_array(b).tobytes()
