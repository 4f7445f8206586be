"""Normalisation: per channel it is exact; across channels the rest changes when one goes."""

from __future__ import annotations

import numpy as np
import onnx

from ..labels import collapse, varying
from ..protos import attribute
from ..walk import Walk
from .registry import rule


def _vector(walk: Walk, node: onnx.NodeProto, axis: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels pinned to one axis, and the same as a vector of that axis' size."""
    labels, shape = walk.labels(node.input[0]), walk.shape(node.input[0])
    size = shape[axis] if axis < len(shape) else 1  # a vector is one channel
    labels = walk.pin(
        labels,
        set(range(labels.ndim)) - {axis},
        f"{node.op_type} {node.name!r} normalises an axis that carries channels",
    )
    return labels, np.broadcast_to(labels.ravel(), (size,))


@rule("BatchNormalization")
def batch_normalization(walk: Walk, node: onnx.NodeProto) -> None:
    """Scale, bias, mean and variance per channel."""
    labels, channels = _vector(walk, node)
    for parameter in node.input[1:5]:
        walk.follow(node, parameter, 0, channels)
    walk.write(node.output[0], labels)
    for extra in filter(None, node.output[1:]):
        walk.write(extra, channels)


@rule("InstanceNormalization")
def instance_normalization(walk: Walk, node: onnx.NodeProto) -> None:
    """Each channel over space. Channels on the other axes are a GroupNorm written by reshaping: across them."""
    labels = walk.labels(node.input[0])
    axes = set(varying(labels))
    if axes - {1}:
        labels = walk.tie(labels, axes & {1})
        walk.blur(labels)
        walk.write(node.output[0], labels)
        return
    labels, channels = _vector(walk, node)
    for parameter in node.input[1:3]:
        walk.follow(node, parameter, 0, channels)
    walk.write(node.output[0], labels)


@rule("GroupNormalization")
def group_normalization(walk: Walk, node: onnx.NodeProto) -> None:
    """Groups stay equal: the same offset in each is one unit. Scale and bias are per group before operator set 21."""
    labels, channels = _vector(walk, node)
    groups = attribute(node, "num_groups")
    if varying(labels):
        walk.tie(channels.reshape(groups, -1), [0])
        walk.blur(channels)
    for parameter in node.input[1:3]:
        if walk.shape(parameter) == channels.shape and len(channels) != groups:
            walk.follow(node, parameter, 0, walk.atoms.find(channels))
        elif len(channels) == groups:
            walk.freeze(channels, f"GroupNormalization {node.name!r} has one channel a group")
    walk.write(node.output[0], walk.atoms.find(labels))


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(walk: Walk, node: onnx.NodeProto) -> None:
    """Over the last axes, with scale and bias of their shape."""
    labels = walk.labels(node.input[0])
    first = attribute(node, "axis", -1) % labels.ndim
    reason = f"{node.op_type} {node.name!r} gives out its statistics"
    if any(axis >= first for axis in varying(labels)):
        walk.blur(labels)
    for parameter in filter(None, node.input[1:3]):
        shape = walk.shape(parameter)
        if not walk.is_constant(parameter):
            walk.freeze(labels, f"{node.op_type} {node.name!r} takes a computed {parameter!r}")
        elif shape:
            lead = labels.ndim - len(shape)
            tail = collapse(labels, range(lead, labels.ndim)).reshape(labels.shape[lead:])
            walk.follow_elementwise(node, parameter, collapse(tail, [a for a, size in enumerate(shape) if size != 1]))
    walk.write(node.output[0], labels)
    before = any(axis < first for axis in varying(labels))
    for extra in filter(None, node.output[1:]):  # mean and deviation: one for every position on the axes before
        statistics = walk.tie(labels, range(first, labels.ndim)) if before else walk.stays(labels.ndim, reason)
        walk.write(extra, statistics)


@rule("LRN")
def local_response(walk: Walk, node: onnx.NodeProto) -> None:
    """Neighbouring channels."""
    labels, _ = _vector(walk, node)
    walk.blur(labels)
    walk.write(node.output[0], labels)


@rule("Softmax", "LogSoftmax", "Hardmax", repeats=True)
def softmax(walk: Walk, node: onnx.NodeProto) -> None:
    """One axis since operator set 13, all axes from `axis` on before it."""
    labels = walk.labels(node.input[0])
    axis = attribute(node, "axis", -1 if walk.opset >= 13 else 1) % labels.ndim
    over = {axis} if walk.opset >= 13 else set(range(axis, labels.ndim))
    if over & set(varying(labels)):
        walk.blur(labels)
    walk.write(node.output[0], labels)


@rule("LpNormalization", "MeanVarianceNormalization")
def vector_normalization(walk: Walk, node: onnx.NodeProto) -> None:
    """The length along an axis; per-channel mean and variance is exact, but its axes are a choice of the graph."""
    labels = walk.labels(node.input[0])
    if node.op_type == "LpNormalization":
        over = {attribute(node, "axis", -1) % labels.ndim}
    else:
        over = {axis % labels.ndim for axis in attribute(node, "axes", [0, 2, 3])}
    if over & set(varying(labels)):
        walk.blur(labels)
    walk.write(node.output[0], labels)
