"""Reductions, and what reads sizes or positions."""

from __future__ import annotations

import onnx

from ..labels import collapse, varying
from ..protos import attribute
from ..walk import Walk
from .registry import rule


@rule(
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"),
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
    repeats=True,
)
def reduce(walk: Walk, node: onnx.NodeProto) -> None:
    """Over space labels pass. Over the channels the result depends on all of them: not exact."""
    labels = walk.labels(node.input[0])
    axes = walk.operand(node, 1, "axes")
    if walk.computed(node, 1):
        walk.freeze(labels, f"{node.op_type} {node.name!r} takes axes computed at run time")
    if not axes:
        axes = [] if attribute(node, "noop_with_empty_axes", 0) else list(range(labels.ndim))
    over = {axis % labels.ndim for axis in axes}
    rank = labels.ndim if attribute(node, "keepdims", 1) else labels.ndim - len(over)
    if over & set(varying(labels)):
        labels = walk.choose(labels, set(range(labels.ndim)) - over, over)
    if over & set(varying(labels)):
        walk.blur(labels)
        rest = set(varying(labels)) - over
        if not rest:
            walk.write(node.output[0], walk.stays(rank, f"{node.op_type} {node.name!r} reduces over the channels"))
            return
        labels = walk.tie(labels, over)
    labels = collapse(labels, set(range(labels.ndim)) - over)
    kept = [size for axis, size in enumerate(labels.shape) if axis not in over]
    walk.write(node.output[0], labels if rank == labels.ndim else labels.reshape(kept))


@rule("ArgMax", "ArgMin")
def argument(walk: Walk, node: onnx.NodeProto) -> None:
    """The answer is a position: none may go on that axis."""
    labels = walk.labels(node.input[0])
    axis = attribute(node, "axis", 0) % labels.ndim
    labels = walk.pin(labels, {axis}, f"{node.op_type} {node.name!r} answers with a position among the channels")
    if not attribute(node, "keepdims", 1):
        labels = labels.reshape([size for other, size in enumerate(labels.shape) if other != axis])
    walk.write(node.output[0], labels)


@rule("TopK", "CumSum")
def ordered(walk: Walk, node: onnx.NodeProto) -> None:
    """Order along one axis matters."""
    labels = walk.labels(node.input[0])
    if node.op_type == "CumSum":
        axis = walk.constant(node.input[1])
        over = set(range(labels.ndim)) if axis is None else {int(axis.ravel()[0]) % labels.ndim}
    else:
        over = {attribute(node, "axis", -1) % labels.ndim}
    labels = walk.pin(labels, over, f"{node.op_type} {node.name!r} depends on the order of the channels")
    for output in filter(None, node.output):
        walk.write(output, labels)


@rule("Shape", repeats=True)
def shape(walk: Walk, node: onnx.NodeProto) -> None:
    """What could not be folded reads a size at run time; only sizes of axes that carry channels matter."""
    labels = walk.labels(node.input[0])
    read = set(range(labels.ndim)[attribute(node, "start", 0) : attribute(node, "end", labels.ndim)])
    readers = walk.readers(node.output[0])
    picked = [walk.constant(user.input[1]) for user in readers if user.op_type == "Gather"]
    alone = len(picked) == len(readers) and not walk.read_outside(node.output[0])
    if picked and alone and all(index is not None for index in picked):
        axes = sorted(read)
        read = {axes[int(i)] for index in picked for i in index.ravel() if -len(axes) <= i < len(axes)}
    walk.pin(labels, read, f"Shape {node.name!r} reads the number of channels at run time")
    walk.write(node.output[0], walk.stays(1, f"Shape {node.name!r}"))
