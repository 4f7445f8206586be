"""Shared weights: each use gets its own copy, so that slicing one leaves the others alone."""

from __future__ import annotations

import math
from collections import Counter

import onnx

from .protos import captured

__all__ = ["free_name", "is_shared", "unshare"]


def is_shared(model: onnx.ModelProto) -> bool:
    """Whether any weight has several uses."""
    return bool(_dequantized(model) or _shared(model))


def unshare(model: onnx.ModelProto) -> None:
    """Give, in place, every use of an initializer its own copy, and of a weight behind a DequantizeLinear too."""
    _unshare_dequantized(model)
    taken = {tensor.name for tensor in model.graph.initializer}
    for node, position, tensor in _shared(model):
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = node.input[position] = free_name(tensor.name, taken)
        model.graph.initializer.append(copy)
        taken.add(copy.name)


def _shared(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, int, onnx.TensorProto]]:
    """Uses (node, input position, initializer) of weights that have another use already.

    What holds one entry or counts (axes, shapes) is left out: `slim` makes such operands anew, and integers that are
    combined with channels freeze them.
    """
    graph = model.graph
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    uses.update(name for node in graph.node for name in captured(node))
    weights = {
        tensor.name: tensor
        for tensor in graph.initializer
        if uses[tensor.name] > 1 and tensor.data_type != onnx.TensorProto.INT64 and math.prod(tensor.dims) > 1
    }
    if not weights:
        return []
    used = {value.name for value in graph.output}.union(*(captured(node) for node in graph.node))
    shared = []
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in weights:
                if name in used:
                    shared.append((node, position, weights[name]))
                used.add(name)
    return shared


def _dequantized(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """DequantizeLinear nodes of initializers that several nodes read."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    candidates = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights]
    if not candidates:
        return []
    uses = Counter(name for node in graph.node for name in node.input)
    outside = {value.name for value in graph.output}.union(*(captured(node) for node in graph.node))
    return [node for node in candidates if uses[node.output[0]] > 1 and node.output[0] not in outside]


def _unshare_dequantized(model: onnx.ModelProto) -> None:
    """A DequantizeLinear of its own for every reader."""
    graph = model.graph
    shared = {node.output[0]: node for node in _dequantized(model)}
    if not shared:
        return
    values = {value.name: value for value in graph.value_info}
    taken = {name for node in graph.node for name in (*node.output, node.name)}
    seen: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in shared and name in seen:
                copy = onnx.NodeProto()
                copy.CopyFrom(shared[name])
                copy.name, copy.output[0] = free_name(copy.name, taken), free_name(name, taken)
                taken |= {copy.name, copy.output[0]}
                nodes.append(copy)
                if name in values:
                    graph.value_info.add().CopyFrom(values[name])
                    graph.value_info[-1].name = copy.output[0]
                node.input[position] = copy.output[0]
            seen.add(name)
        nodes.append(node)
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(fresh)


def free_name(name: str, taken: set[str]) -> str:
    """`NAME__2`, or a higher number."""
    number = 2
    while f"{name}__{number}" in taken:
        number += 1
    return f"{name}__{number}"
