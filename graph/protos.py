"""Small readers of ONNX protos that several files of this room share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = [
    "Dim",
    "Shape",
    "attribute",
    "captured",
    "copy_without_weights",
    "opset",
    "subgraphs",
    "tensor_shapes",
    "weights_as_inputs",
]

Dim = int | str | None
"""A size, a symbol (`dim_param`), or unknown."""
Shape = tuple[Dim, ...]
_LARGE = 2**16  # bytes: no operand that shape inference has to read is larger


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """The value of an attribute: a number, bytes, a list, an array for tensors; `default` where it is absent."""
    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    return default


def opset(model: onnx.ModelProto) -> int:
    """Version of the default operator set."""
    return next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Bodies of If, Loop and Scan."""
    for item in node.attribute:
        if item.type == onnx.AttributeProto.GRAPH:
            yield item.g
        elif item.type == onnx.AttributeProto.GRAPHS:
            yield from item.graphs


def captured(node: onnx.NodeProto) -> set[str]:
    """Names that the node's subgraphs mention, at any depth; what they define themselves is among them, harmlessly."""
    names: set[str] = set()
    for body in subgraphs(node):
        names.update(value.name for value in body.output)
        for inner in body.node:
            names.update(inner.input)
            names |= captured(inner)
    return names


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)  # 0-sized dims are legal but rare
        for dim in kind.shape.dim
    )


def tensor_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Shape of every tensor for which one is known: inputs, outputs, inferred values and initializers."""
    graph = model.graph
    shapes: dict[str, Shape] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        found = _shape(value)
        if found is not None:
            shapes[value.name] = found
    shapes.update((tensor.name, tuple(tensor.dims)) for tensor in graph.initializer)
    return shapes


def copy_without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with everything but the initializers, which make up nearly all of the bytes."""
    out = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            for inner, part in value.ListFields():
                if inner.name == "initializer":
                    continue
                if hasattr(part, "extend"):
                    getattr(out.graph, inner.name).extend(part)
                else:
                    setattr(out.graph, inner.name, part)
        elif field.message_type is not None and not hasattr(value, "extend"):
            getattr(out, field.name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(out, field.name).extend(value)
        else:
            setattr(out, field.name, value)
    return out


def constant(tensor: onnx.TensorProto) -> np.ndarray:
    """The initializer's values."""
    return numpy_helper.to_array(tensor)


def weights_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large weights are inputs of the same type.

    The checker and shape inference need no more of them, and protobuf has a 2 GB limit.
    """
    bare = copy_without_weights(model)
    listed = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _LARGE:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bare
