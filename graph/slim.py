"""Take units out of a model."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from .analysis import analyze
from .branches import collapse_consumers, sweep
from .edit import Edit
from .group import ChannelAnalysis
from .load import ensure_loaded
from .protos import copy_without_weights, tensor_shapes
from .rules import find
from .sizes import product, split

__all__ = ["Removal", "slim"]

Removal = Mapping[str, Sequence[int]]
"""Group name -> units that go."""


def slim(
    model: onnx.ModelProto | str | os.PathLike[str], removal: Removal, *, analysis: ChannelAnalysis | None = None
) -> onnx.ModelProto:
    """The model without the units of `removal`; a new model, the argument is left alone.

    Weights are cut to what is kept; `group`, shapes, split sizes, bounds and the like are mended by the operators'
    rules. A group whose every unit goes (only where `removable`) leaves its constant contribution behind, and what
    nobody reads any more is swept away. Initializers keep their names, and so do inputs, outputs and nodes.

    Args:
        removal: group name -> units in range(size).
        analysis: that of `analyze(model)`, to avoid a second one.

    Raises:
        ModelError: the model cannot be loaded.
        PlanError: an unknown group, a unit out of range, or all units of a group that is not removable.
    """
    model = ensure_loaded(model)
    analysis = analyze(model) if analysis is None else analysis
    units = {name: analysis.group(name).check(units) for name, units in removal.items()}
    gone = _gone(analysis, units)
    whole = [group for name in units if (group := analysis.group(name)).size == len(units[name])]

    out = copy_without_weights(model)
    _cut(model, gone, out)
    edit = Edit(model, analysis.kept(units))
    swept = _dying(analysis, whole)
    for node in out.graph.node:
        rule = find(node)
        if rule is not None and rule.fix is not None and edit.knows(node) and swept.isdisjoint(node.output):
            rule.fix(edit, node)
    _splice(out, edit)
    if whole:
        ranks = {name: len(shape) for name, shape in tensor_shapes(model).items()}
        collapse_consumers(out, [node for group in whole for node in group.consumers], ranks)
    else:
        sweep(out)
    _mend_shapes(out, edit, swept)
    return out


def _gone(analysis: ChannelAnalysis, units: Removal) -> dict[str, dict[int, list[np.ndarray]]]:
    """Initializer -> axis -> entries that go."""
    gone: dict[str, dict[int, list[np.ndarray]]] = {}
    for name, wanted in units.items():
        rows = np.array(wanted, dtype=np.int64)
        for slot in analysis.group(name).slots if wanted else ():
            gone.setdefault(slot.tensor, {}).setdefault(slot.axis, []).append(slot.positions[rows].ravel())
    return gone


def _cut(model: onnx.ModelProto, gone: dict[str, dict[int, list[np.ndarray]]], out: onnx.ModelProto) -> None:
    """Add the initializers of `model` to `out`, without the entries that go."""
    for tensor in model.graph.initializer:
        made = out.graph.initializer.add()
        if tensor.name not in gone:
            made.CopyFrom(tensor)
            continue
        array = numpy_helper.to_array(tensor)
        for axis, entries in sorted(gone[tensor.name].items()):  # the first axis is the cheapest to cut
            stays = np.ones(array.shape[axis], dtype=bool)
            stays[np.concatenate(entries)] = False
            array = array.take(np.flatnonzero(stays), axis)
        made.name, made.data_type = tensor.name, tensor.data_type
        made.dims.extend(array.shape)
        made.raw_data = _raw(array)


def _raw(array: np.ndarray) -> bytes:
    """Bytes as ONNX stores them; types of less than a byte are packed by onnx."""
    if array.dtype.isbuiltin and sys.byteorder == "little":
        return array.tobytes()
    return numpy_helper.from_array(array).raw_data


def _dying(analysis: ChannelAnalysis, whole: Sequence) -> set[str]:
    """Tensors that carry nothing but units of groups that go as a whole."""
    spans = [(analysis.offsets[group.name], group.size) for group in whole]
    return {
        name
        for name, labels in analysis.labels.items()
        if spans and any(bool(((labels >= start) & (labels < start + size)).all()) for start, size in spans)
    }


def _splice(model: onnx.ModelProto, edit: Edit) -> None:
    """Put the edit's new operands and nodes in place."""
    model.graph.initializer.extend(edit.operands.values())
    if edit.before:
        nodes = [copy for node in model.graph.node for copy in (*edit.before.get(node.name, ()), node)]
        fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(fresh)


def _mend_shapes(model: onnx.ModelProto, edit: Edit, swept: set[str]) -> None:
    """Sizes of inner tensors follow from what was kept; values of tensors that are gone are dropped."""
    live = {name for node in model.graph.node for name in node.output} - swept
    kept = [value for value in model.graph.value_info if value.name in live]
    sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    stored = (node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in sizes)
    weights = {node.output[0]: sizes[node.input[0]] for node in stored}
    for value in kept:
        for dim, size in zip(value.type.tensor_type.shape.dim, weights.get(value.name, ()), strict=False):
            dim.dim_value = size
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if edit.touched(value.name, axis):
                left = edit.count(value.name, axis)
                if dim.HasField("dim_value"):
                    dim.dim_value = left
                else:  # as many for every image
                    dim.dim_param = str(product([left, split(dim.dim_param)[1]]))
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
    del model.graph.value_info[:]
    model.graph.value_info.extend(copies)
