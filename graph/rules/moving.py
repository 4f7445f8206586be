"""Operators that move, repeat or pick entries: done to the labels with numpy, then to the integer operands."""

from __future__ import annotations

import numpy as np
import onnx

from ..edit import Edit
from ..labels import collapse, varying
from ..protos import attribute
from ..walk import Walk
from .registry import rule


@rule("Transpose", repeats=True)
def transpose(walk: Walk, node: onnx.NodeProto) -> None:
    """Axes trade places."""
    labels = walk.source(node, node.input[0])
    walk.write(node.output[0], labels.transpose(attribute(node, "perm", range(labels.ndim)[::-1])))


def fix_expand(edit: Edit, node: onnx.NodeProto) -> None:
    """Entries of the target shape on axes that lost positions."""
    target = edit.operand(node, 1, "shape")
    if target is None:  # computed at run time: nothing was removed here
        return
    first = len(edit.shape(node.output[0])) - len(target)
    cut = [axis for axis in range(len(target)) if target[axis] != 1 and edit.touched(node.output[0], first + axis)]
    for axis in cut:
        target[axis] = edit.count(node.output[0], first + axis)
    if cut:
        edit.set_operand(node, 1, "shape", target)


@rule("Expand", fix=fix_expand)
def expand(walk: Walk, node: onnx.NodeProto) -> None:
    """New and stretched axes share labels."""
    labels = walk.source(node, node.input[0])
    rank = len(walk.shape(node.output[0]))
    if walk.computed(node, 1):  # an entry of 1 keeps the input's own size, whatever that is
        target = walk.sizes(node.input[1]) or (None,) * rank
        own = (1,) * (rank - labels.ndim) + labels.shape
        if any(size > 1 and wanted != 1 for size, wanted in zip(own[::-1], target[::-1], strict=False)):
            walk.freeze(labels, f"Expand {node.name!r} takes a shape computed at run time")
    walk.write(node.output[0], labels.reshape((1,) * (rank - labels.ndim) + labels.shape))


@rule("Tile")
def tile(walk: Walk, node: onnx.NodeProto) -> None:
    """Copies share labels, and go together."""
    labels = walk.source(node, node.input[0])
    repeats = walk.sizes(node.input[1]) or (None,) * labels.ndim
    counts = [repeats[axis] if axis in varying(labels) else 1 for axis in range(labels.ndim)]
    if not all(isinstance(count, int) for count in counts):
        walk.freeze(labels, f"Tile {node.name!r} takes repeats computed at run time")
        walk.write(node.output[0], labels.ravel()[:1].reshape((1,) * labels.ndim))
        return
    walk.write(node.output[0], np.tile(labels, counts))


def _bounds(walk_or_edit: Walk | Edit, node: onnx.NodeProto, rank: int) -> dict[int, tuple[int, int, int]] | None:
    """Axis -> (start, end, step) of a Slice, or None when any is computed at run time."""
    starts, ends = walk_or_edit.operand(node, 1, "starts"), walk_or_edit.operand(node, 2, "ends")
    if starts is None or ends is None or any(walk_or_edit.computed(node, position) for position in (3, 4)):
        return None
    axes = walk_or_edit.operand(node, 3, "axes") or list(range(len(starts)))
    steps = walk_or_edit.operand(node, 4, "steps") or [1] * len(starts)
    return {a % rank: bounds for a, *bounds in zip(axes, starts, ends, steps, strict=True)}


def _picked(size: int, start: int, end: int, step: int) -> range:
    """Positions that a Slice takes: Python's rules, but backwards ONNX clamps a start or end before the first."""
    if step < 0:
        start, end = max(start, -size), None if end < -size else end
    return range(*slice(start, end, step).indices(size))


def fix_slice(edit: Edit, node: onnx.NodeProto) -> None:
    """Bounds count kept positions; picks that are no longer evenly spaced become a Gather."""
    source, shape = node.input[0], edit.shape(node.input[0])
    bounds = _bounds(edit, node, len(shape))
    cut = [axis for axis in bounds or {} if edit.touched(source, axis)]
    if not cut:
        return
    for axis in cut:
        wanted = edit.renumber(source, axis, _picked(shape[axis], *bounds[axis]))
        steps = set(np.diff(wanted).tolist())
        if len(steps) > 1:
            edit.gather_before(node, axis, wanted)
            bounds.pop(axis)
            continue
        step = steps.pop() if steps else 1
        start, end = (int(wanted[0]), int(wanted[-1]) + (1 if step > 0 else -1)) if len(wanted) else (0, 0)
        bounds[axis] = (start, end if end >= 0 else np.iinfo(np.int32).min, step)
    columns = list(zip(*bounds.values(), strict=True)) or [(0,), (np.iinfo(np.int32).max,), (1,)]
    for position, (key, values) in enumerate(
        zip(("starts", "ends", "axes", "steps"), (*columns[:2], tuple(bounds) or (0,), columns[2]), strict=True),
        start=1,
    ):
        if key == "steps" and edit.opset < 10:
            continue
        edit.set_operand(node, position, key, [int(value) for value in values], since=10)


@rule("Slice", fix=fix_slice)
def slice_(walk: Walk, node: onnx.NodeProto) -> None:
    """Any bounds and steps, backwards too."""
    labels = walk.source(node, node.input[0])
    bounds = _bounds(walk, node, labels.ndim)
    if bounds is None:
        # Which axes is often known where the bounds are not: a batch, or tokens.
        axes = walk.operand(node, 3, "axes") if not walk.computed(node, 3) else None
        touched = range(labels.ndim) if axes is None else {axis % labels.ndim for axis in axes}
        reason = f"Slice {node.name!r} takes bounds computed at run time"
        walk.write(node.output[0], walk.pin(labels, touched, reason))
        return
    for axis, (start, end, step) in bounds.items():
        if axis in varying(labels):
            labels = labels.take(_picked(labels.shape[axis], start, end, step), axis)
    walk.write(node.output[0], labels)


def fix_gather(edit: Edit, node: onnx.NodeProto) -> None:
    """Indices count kept positions; rows of the index whose picks are all gone go too."""
    shape = edit.shape(node.input[0])
    axis = attribute(node, "axis", 0) % len(shape)
    index = edit.constant(node.input[1])
    if index is None or not edit.touched(node.input[0], axis):
        return
    for offset in range(index.ndim):
        kept = edit.kept(node.output[0], axis + offset)
        if kept is not None:
            index = index.take(kept, offset)
    numbers = edit.renumber(node.input[0], axis, (index % shape[axis]).ravel())
    edit.set_constant(node, 1, numbers.reshape(index.shape).astype(index.dtype))


@rule("Gather", fix=fix_gather)
def gather(walk: Walk, node: onnx.NodeProto) -> None:
    """Constant indices pick labels; computed ones read a table, whose columns are made there."""
    data, index = node.input[:2]
    indices, rank = walk.constant(index), len(walk.shape(node.output[0]))
    if indices is None:
        _table(walk, node, data, index, rank)
        return
    labels = walk.source(node, data)
    axis = attribute(node, "axis", 0) % labels.ndim
    if axis in varying(labels):
        if indices.ndim == 0:  # the axis disappears: the entry that is picked cannot
            others = set(varying(labels)) - {axis}
            if others:
                labels = walk.tie(labels, [axis])
            else:
                picked = labels.take([int(indices)], axis)
                walk.freeze(picked, f"Gather {node.name!r} picks a single channel")
        if axis in varying(labels):
            walk.write(node.output[0], labels.take(indices, axis))
            return
    middle = (1,) * indices.ndim
    walk.write(node.output[0], labels.reshape(labels.shape[:axis] + middle + labels.shape[axis + 1 :]))


def _table(walk: Walk, node: onnx.NodeProto, data: str, index: str, rank: int) -> None:
    """An embedding: rows are chosen at run time, columns are channels."""
    reason = f"Gather {node.name!r} picks entries at run time"
    if not walk.is_constant(index):
        walk.freeze(walk.labels(index), reason)
    axis = attribute(node, "axis", 0)
    if walk.is_constant(data) and len(walk.shape(data)) == 2 and axis == 0:
        made = walk.fresh(walk.shape(data)[1])
        walk.produce(node, data, 1, made)
        walk.write(node.output[0], made.reshape((1,) * (rank - 1) + (-1,)))
        return
    if not walk.is_constant(data):
        walk.freeze(walk.labels(data), reason)
    walk.write(node.output[0], walk.stays(rank, reason))


def _paddings(source: Walk | Edit, node: onnx.NodeProto, rank: int) -> dict[int, tuple[int, int]] | None:
    pads = source.operand(node, 1, "pads")
    if pads is None or source.computed(node, 3):
        return None
    axes = source.operand(node, 3, "axes") or list(range(rank))
    half = len(pads) // 2
    return {axis % rank: (pads[i], pads[half + i]) for i, axis in enumerate(axes)}


def fix_pad(edit: Edit, node: onnx.NodeProto) -> None:
    """As many zero channels are added as are still wanted."""
    rank = len(edit.shape(node.input[0]))
    pads = _paddings(edit, node, rank)
    if pads is None:  # computed at run time: nothing was removed here
        return
    cut = [axis for axis in pads if edit.touched(node.output[0], axis)]
    for axis in cut:
        kept, inner, before = edit.kept(node.output[0], axis), edit.shape(node.input[0])[axis], pads[axis][0]
        pads[axis] = (int((kept < before).sum()), int((kept >= before + inner).sum()))
    if cut:
        edit.set_operand(node, 1, "pads", [both[side] for side in (0, 1) for both in pads.values()], since=11)


@rule("Pad", fix=fix_pad)
def pad(walk: Walk, node: onnx.NodeProto) -> None:
    """Constant padding on the channel axis adds channels of its own: a residual stream that grows by zeros."""
    labels, rank = walk.labels(node.input[0]), len(walk.shape(node.output[0]))
    pads = _paddings(walk, node, rank)
    mode = attribute(node, "mode", b"constant")
    touched = set(varying(labels)) if pads is None else {a for a in varying(labels) if any(pads.get(a, (0, 0)))}
    plain = pads is not None and mode == b"constant" and all(size >= 0 for a in touched for size in pads[a])
    if touched and not plain:
        labels = walk.pin(labels, touched, f"Pad {node.name!r} pads the channels in a way that cannot be cut")
        walk.write(node.output[0], labels)
        return
    for axis in touched:
        shape = collapse(labels, set(range(rank)) - {axis}).shape
        sides = []
        for size in pads[axis]:
            added = [1] * rank
            added[axis] = size
            sides.append(np.broadcast_to(walk.fresh(size).reshape(added), [*shape[:axis], size, *shape[axis + 1 :]]))
        labels = np.concatenate([sides[0], labels, sides[1]], axis=axis)
    walk.write(node.output[0], labels)


@rule("DepthToSpace")
def depth_to_space(walk: Walk, node: onnx.NodeProto) -> None:
    """Blocks of block**2 channels become pixels: they go together."""
    labels, block = walk.labels(node.input[0]), attribute(node, "blocksize")
    labels = walk.pin(labels, {0, 2, 3}, f"DepthToSpace {node.name!r} carries channels on a spatial axis")
    if labels.shape[1] > 1:
        crd = attribute(node, "mode", b"DCR") == b"CRD"
        blocks = labels.reshape((-1, block * block) if crd else (block * block, -1))
        labels = walk.tie(blocks, [1 if crd else 0]).reshape(1, -1, 1, 1)
    walk.write(node.output[0], labels)


@rule("SpaceToDepth")
def space_to_depth(walk: Walk, node: onnx.NodeProto) -> None:
    """Every channel becomes block**2, spread with a stride."""
    labels, block = walk.labels(node.input[0]), attribute(node, "blocksize")
    labels = walk.pin(labels, {0, 2, 3}, f"SpaceToDepth {node.name!r} carries channels on a spatial axis")
    walk.write(node.output[0], np.tile(labels, (1, block * block, 1, 1)) if labels.shape[1] > 1 else labels)
