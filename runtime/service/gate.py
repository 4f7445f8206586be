"""What is let in: whole ONNX models that need nothing but themselves, and inputs in their own format.

The service loads what strangers send. onnxruntime is not hardened against that, so what can reach outside is refused
before it: tensors in other files, operators of libraries that would have to be loaded, nodes that name a file, and
onnxruntime's own file format. What is wrong inside a model is found by onnx.checker, in a process that may die of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from .arrays import decode_arrays

__all__ = ["fault_in", "fault_in_model"]

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "com.microsoft"})
"""Operators that onnxruntime has built in. Those of any other domain come from a library, or from the model itself."""
_REFUSED = frozenset({"EPContext", "PyOp", "PyOpGrad", "PythonOp", "PythonOpGrad", "TritonOp", "ATen"})
"""Built-in operators that load a compiled graph from a file, or run code that is not onnxruntime's."""
_ORT_FORMAT = b"ORTM"
"""At byte 4 of onnxruntime's own file format, which it recognises by that and reads without these checks."""
_LONGEST = 300


def fault_in(kind: str, path: Path) -> str | None:
    """What is wrong with an uploaded file of that kind (`models` or `inputs`), in one line; None where nothing is."""
    content = path.read_bytes()
    if kind == "models":
        return fault_in_model(content)
    try:
        decode_arrays(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return f"no inputs: {_one_line(error)}"
    return None


def fault_in_model(content: bytes) -> str | None:
    """What is wrong with a model, in one line; None where nothing is."""
    if content[4:8] == _ORT_FORMAT:
        return "a model in onnxruntime's own format: send ONNX"
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        return "not an ONNX model"
    if not model.graph.node and not model.graph.output:
        return "not an ONNX model: it has no graph"
    own = {function.domain for function in model.functions}
    for node in _nodes(model):
        if node.domain not in _DOMAINS | own:
            return f"operator {node.domain}::{node.op_type} is not built into onnxruntime; custom libraries are refused"
        if node.op_type in _REFUSED:
            return f"operator {node.op_type} reaches outside the model"
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in _tensors(model)):
        return "weights in other files: send a model that holds its weights"
    _fill_in_shapes(model)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        return f"onnx.checker refuses the model: {_one_line(error)}"
    return None


def _fill_in_shapes(model: onnx.ModelProto) -> None:
    """Gives inputs and outputs without a shape an empty one: onnxruntime does not mind, onnx.checker does."""
    for graph in _graphs(model):
        if isinstance(graph, onnx.GraphProto):
            for value in (*graph.input, *graph.output):
                if value.type.WhichOneof("value") == "tensor_type":
                    value.type.tensor_type.shape.SetInParent()


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Every graph, whatever it is inside of."""
    todo: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    for training in model.training_info:
        todo += [training.initialization, training.algorithm]
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                todo += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor: weights, sparse weights and attributes."""
    for graph in _graphs(model):
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        sparse = [tensor for attribute in attributes for tensor in (attribute.sparse_tensor, *attribute.sparse_tensors)]
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            sparse += graph.sparse_initializer
        else:
            attributes += graph.attribute_proto
        for attribute in attributes:
            yield from (attribute.t, *attribute.tensors)
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
