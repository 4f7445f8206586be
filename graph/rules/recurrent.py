"""LSTM, GRU and RNN: a unit is one position of the hidden state, in every gate and in both directions."""

from __future__ import annotations

import numpy as np
import onnx

from ..edit import Edit
from ..protos import attribute
from ..walk import Walk
from .registry import rule

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_PEEPHOLES = 3
"""Gates of an LSTM that look at the cell."""
_FEATURES = 2
"""Axis of the channels in the data and in the states, whichever of the others is the batch."""
_STATES = (5, 6)
"""Inputs: the initial hidden state and, of an LSTM, the initial cell."""
_REARRANGING = {
    *("Cast", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}


def _gave_up(walk: Walk, node: onnx.NodeProto) -> bool:
    """Give up, and say so, where a weight is known at run time only."""
    for weight in node.input[1:3]:
        if not walk.is_constant(weight):
            reason = f"the weight {weight!r} of {node.op_type} {node.name!r} is computed at run time"
            walk.give_up(node, reason)
            walk.opaque[node.name] = reason
            return True
    return False


def _features(walk: Walk, node: onnx.NodeProto, name: str) -> np.ndarray:
    """Labels of the data or of a state along its features; nothing can go from the axes of time and batch."""
    labels = walk.labels(name)
    reason = f"{node.op_type} {node.name!r} runs over an axis that carries channels"
    return walk.pin(labels, set(range(labels.ndim)) - {_FEATURES}, reason).ravel()


def _units(walk: Walk, node: onnx.NodeProto, size: int) -> np.ndarray:
    if size == 1:
        return walk.stays(1, f"{node.op_type} {node.name!r} has a hidden size of 1")
    return walk.fresh(size)


def _start(walk: Walk, node: onnx.NodeProto, state: str, units: np.ndarray) -> None:
    """A constant state follows the units, one that is computed is made of them; the fix leaves zeros out."""
    if walk.is_constant(state):
        walk.follow(node, state, _FEATURES, units)
    elif _is_zero(walk, state):
        walk.freeze(walk.labels(state), f"is the initial state of {node.op_type} {node.name!r}, of zeros")
    else:
        walk.union(units, _features(walk, node, state))


def _is_zero(walk: Walk, name: str) -> bool:
    """Whether nothing but zeros is in a tensor: exporters compute a state as large as the batch, which is not known."""
    values = walk.constant(name)
    if values is not None:
        return not values.any()
    maker = walk.maker(name)
    if maker is None or maker.domain not in ("", "ai.onnx"):
        return False
    if maker.op_type == "ConstantOfShape":
        value = attribute(maker, "value")
        return value is None or not value.any()
    return maker.op_type in _REARRANGING and _is_zero(walk, maker.input[0])


def fix_hidden_size(edit: Edit, node: onnx.NodeProto) -> None:
    """The hidden size is an attribute, and the last axis of every output.

    A computed state that keeps its size is one of zeros, which a state left out means too.
    """
    output = next(filter(None, node.output))
    last = len(edit.shape(output)) - 1
    if not edit.touched(output, last):
        return
    edit.set_attribute(node, "hidden_size", edit.count(output, last))
    for place in _STATES:
        if edit.computed(node, place) and not edit.touched(node.input[place], _FEATURES):
            node.input[place] = ""
    while not node.input[-1]:
        node.input.pop()


@rule(*_GATES, fix=fix_hidden_size)
def recurrent(walk: Walk, node: onnx.NodeProto) -> None:
    """W (directions, gates * hidden, inputs), R (directions, gates * hidden, hidden), biases of W and R side by side.

    R's columns read what a unit was one step before: they are its consumers, as is all that reads the outputs. With
    these zero the other units do not know of it, so removing it is exact. The hidden size is one attribute, so both
    directions lose the same units.
    """
    if _gave_up(walk, node):
        return
    data, weight, recurrence, bias, lengths, *states, peepholes = (*node.input, *[""] * 5)[:8]
    gates = _GATES[node.op_type]
    units = _units(walk, node, walk.shape(recurrence)[2])
    walk.consume(node, weight, 2, np.broadcast_to(_features(walk, node, data), walk.shape(weight)[2:]))
    walk.consume(node, recurrence, 2, units)
    for tensor in (weight, recurrence):
        walk.produce(node, tensor, 1, np.tile(units, gates))
    if bias:
        walk.produce(node, bias, 1, np.tile(units, 2 * gates))
    if peepholes:
        walk.follow(node, peepholes, 1, np.tile(units, _PEEPHOLES))
    if lengths:
        _features(walk, node, lengths)
    for state in filter(None, states):
        _start(walk, node, state, units)
    for output in filter(None, node.output):
        rank = len(walk.shape(output))
        walk.write(output, walk.atoms.find(units).reshape((1,) * (rank - 1) + (-1,)))
