"""`as_strided` as torch's default exporter writes it: a Gather from the flattened tensor, indices computed at run time.

    flat  = Reshape(x, [-1])                         x is (batch, ...), S entries an image
    index = Range(0, batch) * S + c                  c says which entries of an image
    y     = Gather(flat, index)

That reads the same entries of every image, so it is `Gather(Reshape(x, [-1, S]), c, axis=1)` with a constant index, and
where `c` counts from 0 to S - 1 nothing but a Reshape. In that form the batch is an axis of its own, channels can be
followed, and nothing is computed at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from .protos import Dim, attribute, tensor_shapes
from .shape_values import INTEGERS, Value, integers, shape_values
from .sizes import product, quotient

__all__ = ["batch_gathers"]


@dataclass(frozen=True)
class _Index:
    """Integers `scale * n + offset` for every n of an axis of unknown size, which is the first."""

    size: Dim
    scale: int
    offset: np.ndarray
    """(1, ...), one entry for every n."""


def batch_gathers(model: onnx.ModelProto) -> bool:
    """Rewrite such Gathers, in place; True when there were any. `model` must carry inferred shapes."""
    graph = model.graph
    if not any(node.op_type == "Range" for node in graph.node):
        return False
    shapes, values = tensor_shapes(model), shape_values(model)
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type in INTEGERS}
    made_by = {name: node for node in graph.node for name in node.output}
    indices: dict[str, _Index] = {}
    nodes, changed = list[onnx.NodeProto](), False
    for node in graph.node:
        nodes.append(node)
        index = _follow(node, indices, values, constants)
        if index is not None:
            indices[node.output[0]] = index
        flat = made_by.get(node.input[0]) if node.op_type == "Gather" else None
        if flat is None or flat.op_type != "Reshape" or node.input[1] not in indices or attribute(node, "axis", 0):
            continue
        index, source = indices[node.input[1]], shapes.get(flat.input[0])
        if source is None or len(shapes.get(node.input[0], ())) != 1:
            continue
        entries = quotient(product(source), index.size)
        if entries == index.scale and source[0] == index.size and _inside(index.offset, index.scale):
            changed = True
            nodes[-1:] = _rewritten(graph, node, flat.input[0], index)
    if not changed:
        return False
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(fresh)
    return True


def _inside(offset: np.ndarray, count: int) -> bool:
    return bool((offset >= 0).all() and (offset < count).all())


def _follow(
    node: onnx.NodeProto,
    indices: Mapping[str, _Index],
    values: Mapping[str, Value],
    constants: Mapping[str, np.ndarray],
) -> _Index | None:
    """What the node makes of an index, or None where this is something else."""
    if node.op_type == "Range":
        start, limit, step = (values.get(name) for name in node.input)
        if limit is None or limit.size != 1 or integers(start) != [0] or integers(step) != [1]:
            return None
        return _Index(limit.ravel()[0], 1, np.zeros(1, dtype=np.int64))
    index = next((indices[name] for name in node.input if name in indices), None)
    others = [constants.get(name) for name in node.input if name not in indices]
    if index is None or any(other is None for other in others) or len(node.input) > 2:
        return None
    offset, rank = index.offset, index.offset.ndim
    match node.op_type, others:
        case (("Cast" | "Identity"), []):
            return index
        case "Mul", [factor] if factor.size == 1 and factor.ndim <= rank:
            return _Index(index.size, index.scale * int(factor.ravel()[0]), offset * factor)
        case "Add", [term] if term.ndim < rank or (term.ndim == rank and term.shape[0] == 1):
            return _Index(index.size, index.scale, offset + term)
        case "Unsqueeze", [axes] if (axes > 0).all():
            return _Index(index.size, index.scale, np.expand_dims(offset, tuple(int(axis) for axis in axes.ravel())))
    return None


def _rewritten(graph: onnx.GraphProto, node: onnx.NodeProto, source: str, index: _Index) -> list[onnx.NodeProto]:
    """A Gather that reads from (batch, entries of an image), or a Reshape where it picks all of them in order."""
    out, picked = node.output[0], index.offset[0]

    def constant(name: str, array: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(array.astype(np.int64), name))
        return name

    if picked.size == index.scale and np.array_equal(picked.ravel(), np.arange(index.scale)):
        shape = constant(f"{out}__shape", np.array([-1, *picked.shape]))
        return [onnx.helper.make_node("Reshape", [source, shape], [out], node.name)]
    rows = constant(f"{out}__rows_shape", np.array([-1, index.scale]))
    flat = onnx.helper.make_node("Reshape", [source, rows], [f"{out}__rows"], f"{node.name}/rows")
    entries = constant(f"{out}__entries", picked)
    return [flat, onnx.helper.make_node("Gather", [flat.output[0], entries], [out], node.name, axis=1)]
