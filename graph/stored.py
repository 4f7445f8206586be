"""Weights stored as integers: what a DequantizeLinear makes of an initializer is a weight like any other.

A position that goes takes the integer with it and, where scales and zero points are per channel of that axis, those.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx

from .protos import attribute, captured

__all__ = ["Stored", "stored_weights"]


@dataclass(frozen=True)
class Stored:
    """One weight."""

    tensor: str
    """The initializer with the integers."""
    zero_point: str
    """Its zero point; empty where it is 0."""
    axis: int
    """Axis along which scale and zero point vary, -1 where there is one for all."""
    per_channel: tuple[str, ...]
    """Initializers with one entry for every position of `axis`: the scale and, where there is one, the zero point."""


def stored_weights(model: onnx.ModelProto) -> dict[str, Stored]:
    """Output of a DequantizeLinear -> the weight behind it. Blocks, and what several nodes read, are left out."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    uses.update(value.name for value in model.graph.output)
    uses.update(name for node in model.graph.node for name in captured(node))
    found = {}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or not all(name in shapes for name in node.input if name):
            continue
        tensor, scale, zero_point = (*node.input, "")[:3]
        blocks = attribute(node, "block_size", 0) or len(shapes[scale]) > 1
        if blocks or uses[tensor] > 1 or uses[node.output[0]] > 1 or not shapes[tensor]:
            continue
        parameters = tuple(name for name in (scale, zero_point) if name)
        per_channel = parameters if shapes[scale] not in ((), (1,)) else ()
        axis = attribute(node, "axis", 1) % len(shapes[tensor]) if per_channel else -1
        found[node.output[0]] = Stored(tensor, zero_point, axis, per_channel)
    return found
