"""Conv and ConvTranspose: read channels on one axis of the weight, make them on the other."""

from __future__ import annotations

import numpy as np
import onnx

from ..edit import Edit
from ..labels import varying
from ..protos import attribute
from ..walk import Walk
from .registry import rule

CHANNEL = 1
"""Axis of the channels in the data, whatever its rank."""


def _input(walk: Walk, node: onnx.NodeProto, size: int) -> np.ndarray:
    """Label of every input channel, as a vector of `size` (which the weight tells where shape inference could not)."""
    labels = walk.labels(node.input[0])
    reason = f"{node.op_type} {node.name!r} slides over an axis that carries channels"
    return np.broadcast_to(walk.pin(labels, set(range(labels.ndim)) - {CHANNEL}, reason).ravel(), (size,))


def _write(walk: Walk, node: onnx.NodeProto, channels: np.ndarray) -> None:
    rank = len(walk.shape(node.output[0]))
    walk.write(node.output[0], channels.reshape((1, -1) + (1,) * (rank - 2)))


def _give_up(walk: Walk, node: onnx.NodeProto) -> None:
    walk.opaque[node.name] = f"the weight {node.input[1]!r} of {node.op_type} {node.name!r} is computed at run time"
    walk.give_up(node, walk.opaque[node.name])


def _outputs(walk: Walk, node: onnx.NodeProto, per_group: int, groups: int) -> np.ndarray:
    """Fresh labels for the output channels; the same offset in every group is one unit."""
    if per_group == 1:
        each = "a single output channel" + (" in each of its groups" if groups > 1 else "")
        return np.broadcast_to(walk.stays(1, f"{node.op_type} {node.name!r} has {each}"), (groups,))
    return np.tile(walk.fresh(per_group), groups)


def _bias(walk: Walk, node: onnx.NodeProto, channels: np.ndarray, *, follower: bool = False) -> None:
    if len(node.input) > 2 and node.input[2]:
        (walk.follow if follower else walk.produce)(node, node.input[2], 0, channels)


def _slides_over_channels(walk: Walk, node: onnx.NodeProto) -> bool:
    """Efficient channel attention: a kernel slides over the channels and gives one value for each.

    A channel that goes leaves its neighbours other neighbours: not exact.
    """
    labels, axes = walk.labels(node.input[0]), varying(walk.labels(node.input[0]))
    before, after = walk.shape(node.input[0]), walk.shape(node.output[0])
    strides = attribute(node, "strides", [1] * (labels.ndim - 2))
    if len(axes) != 1 or axes[0] < 2 or strides[axes[0] - 2] != 1 or before[axes[0]] != after[axes[0]]:
        return False
    walk.blur(labels)
    walk.write(node.output[0], labels)
    return True


def fix_group(edit: Edit, node: onnx.NodeProto) -> None:
    """A depthwise convolution has as many groups as channels; other groups lose the same number each."""
    before = edit.shape(node.input[0])[CHANNEL]
    if attribute(node, "group", 1) == before != 1:
        edit.set_attribute(node, "group", edit.count(node.input[0], CHANNEL))


@rule("Conv", fix=fix_group)
def conv(walk: Walk, node: onnx.NodeProto) -> None:
    """Weight (outputs, inputs / groups, *kernel)."""
    weight, groups = node.input[1], attribute(node, "group", 1)
    if not walk.is_constant(weight) or walk.is_constant(node.input[0]):
        _give_up(walk, node)
        return
    outputs, per_group = walk.shape(weight)[:2]
    if outputs == per_group == 1 and _slides_over_channels(walk, node):
        return
    channels = _input(walk, node, groups * per_group)
    if groups > 1 and per_group == 1 and groups == len(channels):  # depthwise; one channel alone is an ordinary conv
        made = np.repeat(channels, outputs // groups)
        walk.follow(node, weight, 0, made)
        _bias(walk, node, made, follower=True)
    else:
        read = walk.tie(channels.reshape(groups, per_group), [0]).ravel()
        walk.consume(node, weight, 1, read)
        made = _outputs(walk, node, outputs // groups, groups)
        walk.produce(node, weight, 0, made)
        _bias(walk, node, made)
    _write(walk, node, made)


@rule("ConvTranspose", fix=fix_group)
def conv_transpose(walk: Walk, node: onnx.NodeProto) -> None:
    """Weight (inputs, outputs / groups, *kernel)."""
    weight, groups = node.input[1], attribute(node, "group", 1)
    if not walk.is_constant(weight) or walk.is_constant(node.input[0]):
        _give_up(walk, node)
        return
    inputs, per_group = walk.shape(weight)[:2]
    channels = _input(walk, node, inputs)
    if groups > 1 and groups == inputs:  # depthwise
        made = np.repeat(channels, per_group)
        walk.follow(node, weight, 0, channels)
        _bias(walk, node, made, follower=True)
    else:
        walk.tie(channels.reshape(groups, -1), [0])
        walk.consume(node, weight, 0, walk.atoms.find(channels))
        made = _outputs(walk, node, per_group, groups)
        walk.produce(node, weight, 1, made[:per_group])
        _bias(walk, node, made)
    _write(walk, node, made)
