"""Take units out of a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from .analysis import analyze
from .branches import collapse_consumers, sweep
from .edit import Edit
from .group import ChannelAnalysis, Slice
from .load import ensure_loaded
from .protos import copy_without_weights, tensor_shapes
from .rules import find

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
    removed = np.zeros(sum(group.size for group in analysis.groups) + 1, dtype=bool)
    slices: list[Slice] = []
    for name, gone in units.items():
        slices += analysis.group(name).slices(gone)
        removed[[analysis.offsets[name] + unit for unit in gone]] = True
    whole = [analysis.group(name) for name, gone in units.items() if gone and len(gone) == analysis.group(name).size]

    out = copy_without_weights(model)
    out.graph.initializer.extend(_cut(model, slices))
    edit = Edit(model, analysis.labels, removed)
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


def _cut(model: onnx.ModelProto, slices: Sequence[Slice]) -> list[onnx.TensorProto]:
    """Initializers without the entries that go; those that lose nothing are the original's own."""
    gone: dict[str, dict[int, list[int]]] = {}
    for item in slices:
        gone.setdefault(item.tensor, {}).setdefault(item.axis, []).extend(item.indices)
    kept = []
    for tensor in model.graph.initializer:
        if tensor.name in gone:
            array = numpy_helper.to_array(tensor)
            for axis, indices in gone[tensor.name].items():
                array = np.delete(array, indices, axis)
            tensor = numpy_helper.from_array(np.ascontiguousarray(array), tensor.name)
        kept.append(tensor)
    return kept


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
    for value in kept:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if edit.touched(value.name, axis):
                dim.dim_value = edit.count(value.name, axis)
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
    del model.graph.value_info[:]
    model.graph.value_info.extend(copies)
