"""What a net says before it is squashed: afterwards large errors look small, and gradients vanish."""

from __future__ import annotations

import onnx

from ...graph.protos import copy_without_weights

__all__ = ["raw_outputs", "with_raw_outputs"]

_SQUASHING = {"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh"}


def raw_outputs(model: onnx.ModelProto) -> list[str]:
    """For each output of the model, in order, the tensor to compare: what a Softmax or Sigmoid that makes it reads."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for value in model.graph.output:
        maker = makers.get(value.name)
        squashed = maker is not None and maker.op_type in _SQUASHING and maker.input[0] in makers
        found.append(maker.input[0] if maker is not None and squashed else value.name)
    return found


def with_raw_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a loaded model that gives `raw_outputs(model)` in place of its outputs."""
    raw = raw_outputs(model)
    given = [value.name for value in model.graph.output]
    read = {name for node in model.graph.node for name in node.input} | set(raw)
    out = copy_without_weights(model)
    out.graph.initializer.extend(model.graph.initializer)
    for node in list(out.graph.node):
        if set(node.output) & set(given) - set(raw) and not set(node.output) & read:
            out.graph.node.remove(node)
    known = {value.name: value for value in (*model.graph.output, *model.graph.value_info)}
    del out.graph.output[:], out.graph.value_info[:]
    out.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in raw)
    out.graph.value_info.extend(value for value in model.graph.value_info if value.name not in raw)
    return out
