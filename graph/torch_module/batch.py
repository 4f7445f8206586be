"""Whether a graph whose batch is fixed computes every image by itself, so that the module may take any number of them.

The batch is followed from the inputs' first axis through the graph: for every tensor, the axis on which the images lie
one after the other, each with the same number of entries (one, or windows or heads of an image). A node is passed only
where each image's part of the output provably follows from its own part of the inputs. Then the one operand that counts
images, a Reshape's target, is replaced; the node that does not pass is the reason why the batch stays fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from ..protos import Shape, attribute, captured, opset
from ..rules.elementwise import NARY, UNARY

__all__ = ["Batch", "follow_batch"]


@dataclass(frozen=True)
class Batch:
    """What is known of the batch."""

    operands: Mapping[tuple[str, int], np.ndarray] = field(default_factory=dict)
    """(Node, input position) -> an operand that holds for every batch."""
    inputs: frozenset[str] = frozenset()
    """Inputs of a fixed first size that may be of another."""
    reason: str = ""
    """Why the batch is fixed; empty where it is not."""

    def free(self, name: str) -> int | None:
        """The axis of an input that may have any size though the graph fixes it."""
        return 0 if name in self.inputs else None


class _StopError(Exception):
    """The batch cannot be followed further."""


def follow_batch(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> Batch:
    """What the module needs in order to take another batch than the graph's."""
    leading = {value.name: shapes[value.name][0] for value in model.graph.input if shapes.get(value.name)}
    sizes = set(leading.values())
    if not leading or not all(isinstance(size, int) for size in sizes):
        return Batch()
    if len(sizes) > 1:
        return Batch(reason="the batch is fixed: the first sizes of the inputs differ")
    walk = _Walk(model, shapes, dict.fromkeys(leading, 0), next(iter(sizes)))
    try:
        walk.follow()
    except _StopError as stop:
        return Batch(reason=f"the batch is fixed: {stop}")
    return Batch(walk.operands, frozenset(leading))


@dataclass
class _Walk:
    model: onnx.ModelProto
    shapes: Mapping[str, Shape]
    axes: dict[str, int]
    """Tensor -> the axis of its images; what is not here is the same for every image."""
    batch: int
    operands: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.opset = opset(self.model)
        self.constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.read = {value.name for value in self.model.graph.output}
        for node in self.model.graph.node:
            self.read.update(node.input, captured(node))

    def follow(self) -> None:
        for node in self.model.graph.node:
            data = node.input[:1] if node.op_type == "CastLike" else node.input
            read = [name for name in data if name in self.axes]
            if not read and self.axes.keys().isdisjoint(captured(node)):
                continue
            rule = _RULES.get(node.op_type) if not node.domain else None
            if rule is None:
                raise _StopError(f"{node.op_type} {node.name!r} may count or mix images")
            try:
                found = rule(self, node)
                made = found if isinstance(found, tuple) else (found,) * len(node.output)
                for name, axis in zip(node.output, made, strict=False):
                    if name in self.read:
                        self.sizes(name)
                        self.axes[name] = axis
            except _StopError as stop:
                raise _StopError(f"{node.op_type} {node.name!r} {stop}") from None
        for value in self.model.graph.output:
            if value.name in self.axes and (self.axes[value.name] or self.sizes(value.name)[0] != self.batch):
                raise _StopError(f"the images of output {value.name!r} are not its first axis")

    def sizes(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor, all of which have to be known."""
        shape = self.shapes.get(name)
        if shape is None or not all(isinstance(size, int) for size in shape):
            raise _StopError("makes a shape that is not known")
        return tuple(size for size in shape if isinstance(size, int))

    def rank(self, name: str) -> int:
        return len(self.sizes(name))

    def integers(self, node: onnx.NodeProto, position: int, name: str = "") -> list[int] | None:
        """An attribute or a constant operand; None where there is none."""
        value = attribute(node, name) if name else None
        if value is None and len(node.input) > position and node.input[position]:
            if node.input[position] not in self.constants:
                raise _StopError("has an operand that is computed")
            value = numpy_helper.to_array(self.constants[node.input[position]]).reshape(-1).tolist()
        return None if value is None else [int(entry) for entry in np.atleast_1d(value)]

    def only(self, node: onnx.NodeProto, *positions: int) -> int:
        """The axis of the inputs at these positions, which all hold images; no other input may."""
        axes = {self.axes.get(node.input[p]) for p in positions if p < len(node.input) and node.input[p]}
        others = [name for p, name in enumerate(node.input) if p not in positions and name in self.axes]
        if others or len(axes) != 1 or None in axes:
            raise _StopError("reads images where they cannot be told apart")
        return next(axis for axis in axes if axis is not None)


def _elementwise(walk: _Walk, node: onnx.NodeProto) -> int:
    if node.op_type == "CastLike":
        return walk.axes[node.input[0]]
    rank = max(walk.rank(name) for name in node.input if name)
    from_right = {walk.axes[name] - walk.rank(name) for name in node.input if name in walk.axes}
    sizes = {walk.sizes(name)[walk.axes[name]] for name in node.input if name in walk.axes}
    if len(from_right) != 1 or len(sizes) != 1:
        raise _StopError("combines images that lie on different axes")
    place = from_right.pop()
    for name in node.input:
        own = walk.sizes(name) if name and name not in walk.axes else ()
        if len(own) >= -place and own[place] != 1:
            raise _StopError("combines images with a constant that tells them apart")
    return rank + place


def _first(walk: _Walk, node: onnx.NodeProto) -> int:
    """Operators on (image, channel, *space)."""
    positions = (0, 1) if node.op_type == "GridSample" else (0,)
    if walk.only(node, *positions) != 0:
        raise _StopError("does not have the images on its first axis")
    if attribute(node, "training_mode", 0) or (node.op_type == "MaxPool" and len(node.output) > 1):
        raise _StopError("looks at all images")
    return 0


def _resize(walk: _Walk, node: onnx.NodeProto) -> int:
    axis = walk.only(node, 0)
    constant = all(name in walk.constants for name in node.input[1:] if name)
    if not constant or walk.sizes(node.input[0])[axis] != walk.sizes(node.output[0])[axis]:
        raise _StopError("may resize over images")
    if attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise _StopError("may resize over images")
    return axis


def _gemm(walk: _Walk, node: onnx.NodeProto) -> int:
    if walk.only(node, 0) != (1 if attribute(node, "transA", 0) else 0):
        raise _StopError("sums over images")
    bias = walk.sizes(node.input[2]) if len(node.input) > 2 and node.input[2] else ()
    if len(bias) == 2 and bias[0] != 1:
        raise _StopError("adds a constant that tells images apart")
    return 0


def _matmul(walk: _Walk, node: onnx.NodeProto) -> int:
    left, right = node.input
    if min(walk.rank(left), walk.rank(right)) < 2:
        raise _StopError("multiplies a vector")
    rank = max(walk.rank(left), walk.rank(right))
    places = {name: walk.axes[name] - walk.rank(name) for name in (left, right) if name in walk.axes}
    place = next(iter(places.values()))
    outer = {left: -2, right: -1}
    if len(places) == 2:
        same = walk.sizes(left)[walk.axes[left]] == walk.sizes(right)[walk.axes[right]]
        if len(set(places.values())) != 1 or place >= -2 or not same:
            raise _StopError("multiplies images with each other")
        return rank + place
    (name,) = places
    other = walk.sizes(right if name == left else left)
    if place < -2 and (len(other) < -place or other[place] == 1):
        return rank + place
    if place == outer[name]:
        return rank + place
    raise _StopError("sums over images")


def _axis(default: Callable[[int], int]) -> Callable[[_Walk, onnx.NodeProto], int]:
    """Operators along one axis, which must not be that of the images; `default` of the operator set."""

    def rule(walk: _Walk, node: onnx.NodeProto) -> int:
        axis, rank = walk.only(node, 0), walk.rank(node.input[0])
        along = attribute(node, "axis", default(walk.opset)) % rank
        flattens = node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and walk.opset < 13
        if along == axis or (flattens and along < axis):
            raise _StopError("works along the axis of the images")
        gone = node.op_type.startswith("Arg") and not attribute(node, "keepdims", 1)
        return axis - (gone and along < axis)

    return rule


def _layer_norm(walk: _Walk, node: onnx.NodeProto) -> int:
    axis = walk.only(node, 0)
    if attribute(node, "axis", -1) % walk.rank(node.input[0]) <= axis:
        raise _StopError("works along the axis of the images")
    return axis


def _reduce(walk: _Walk, node: onnx.NodeProto) -> int:
    axis, rank = walk.only(node, 0), walk.rank(node.input[0])
    axes = walk.integers(node, 1, "axes")
    if not axes:
        if attribute(node, "noop_with_empty_axes", 0):
            return axis
        axes = list(range(rank))
    gone = {along % rank for along in axes}
    if axis in gone:
        raise _StopError("sums over images")
    return axis if attribute(node, "keepdims", 1) else axis - sum(along < axis for along in gone)


def _transpose(walk: _Walk, node: onnx.NodeProto) -> int:
    order = attribute(node, "perm", range(walk.rank(node.input[0]))[::-1])
    return list(order).index(walk.only(node, 0))


def _concat(walk: _Walk, node: onnx.NodeProto) -> int:
    axis = walk.only(node, *range(len(node.input)))
    if len({walk.sizes(name)[axis] for name in node.input}) != 1:
        raise _StopError("works along the axis of the images")
    if attribute(node, "axis", 1) % walk.rank(node.input[0]) == axis:
        raise _StopError("works along the axis of the images")
    return axis


def _slice(walk: _Walk, node: onnx.NodeProto) -> int:
    axis, rank = walk.only(node, 0), walk.rank(node.input[0])
    starts = walk.integers(node, 1, "starts") or []
    axes = walk.integers(node, 3, "axes")
    if axis in {along % rank for along in (range(len(starts)) if axes is None else axes)}:
        raise _StopError("picks images")
    return axis


def _pad(walk: _Walk, node: onnx.NodeProto) -> int:
    axis, rank = walk.only(node, 0), walk.rank(node.input[0])
    pads, axes = walk.integers(node, 1, "pads") or [], walk.integers(node, 3)
    places = [along % rank for along in (range(rank) if axes is None else axes)]
    if axis in places and (pads[places.index(axis)] or pads[len(places) + places.index(axis)]):
        raise _StopError("adds images")
    return axis


def _squeeze(walk: _Walk, node: onnx.NodeProto) -> int:
    axis, rank = walk.only(node, 0), walk.rank(node.input[0])
    axes = walk.integers(node, 1, "axes")
    if axes is None or axis in {along % rank for along in axes}:
        raise _StopError("may squeeze the axis of the images")
    return axis - sum(along % rank < axis for along in axes)


def _unsqueeze(walk: _Walk, node: onnx.NodeProto) -> int:
    axis, rank = walk.only(node, 0), walk.rank(node.output[0])
    fresh = {along % rank for along in walk.integers(node, 1, "axes") or []}
    return [along for along in range(rank) if along not in fresh][axis]


def _flatten(walk: _Walk, node: onnx.NodeProto) -> int:
    along = attribute(node, "axis", 1)
    if walk.only(node, 0) or along % (walk.rank(node.input[0]) + 1) == 0:
        raise _StopError("flattens images into each other")
    return 0


def _reshape(walk: _Walk, node: onnx.NodeProto) -> int:
    """Images keep their order where as many entries lie before their axis as before."""
    axis, before, after = walk.only(node, 0), walk.sizes(node.input[0]), walk.sizes(node.output[0])
    walk.integers(node, 1)
    outer = math.prod(before[:axis])
    for place, size in enumerate(after):
        if math.prod(after[:place]) == outer and size and size % walk.batch == 0:
            target = [-1 if along == place else entry for along, entry in enumerate(after)]
            if 0 in target:
                break
            walk.operands[node.name, 1] = np.array(target, dtype=np.int64)
            return place
    raise _StopError("takes images apart")


def _gather(walk: _Walk, node: onnx.NodeProto) -> int:
    along = attribute(node, "axis", 0) % walk.rank(node.input[0])
    if node.input[0] not in walk.axes:
        return along + walk.only(node, 1)
    axis = walk.only(node, 0)
    if axis == along:
        raise _StopError("picks images")
    return axis if axis < along else axis - 1 + walk.rank(node.input[1])


def _expand(walk: _Walk, node: onnx.NodeProto) -> int:
    axis, target = walk.only(node, 0), walk.integers(node, 1) or []
    place = axis - walk.rank(node.input[0])
    if len(target) >= -place and target[place] != 1:
        raise _StopError("counts images in its target")
    return walk.rank(node.output[0]) + place


def _tile(walk: _Walk, node: onnx.NodeProto) -> int:
    axis = walk.only(node, 0)
    if (walk.integers(node, 1) or [])[axis] != 1:
        raise _StopError("repeats images")
    return axis


def _recurrent(walk: _Walk, node: onnx.NodeProto) -> tuple[int, ...]:
    states = [p for p in (5, 6) if p < len(node.input) and node.input[p]]
    layout = attribute(node, "layout", 0)
    axis = walk.only(node, 0, *states)
    if axis != (0 if layout else 1) or (len(node.input) > 4 and node.input[4]):
        raise _StopError("does not have the images on their axis")
    return (0, 0, 0) if layout else (2, 1, 1)


def _attention(walk: _Walk, node: onnx.NodeProto) -> int:
    mask = walk.sizes(node.input[3]) if len(node.input) > 3 and node.input[3] else ()
    if walk.only(node, 0, 1, 2) or len(node.input) > 4 or (len(mask) == 4 and mask[0] != 1):
        raise _StopError("reads images where they cannot be told apart")
    return 0


def _einsum(walk: _Walk, node: onnx.NodeProto) -> int:
    terms, arrow, result = attribute(node, "equation").decode().replace(" ", "").partition("->")
    parts = terms.split(",")
    letters = {part[walk.axes[name]] for part, name in zip(parts, node.input, strict=True) if name in walk.axes}
    others = [part for part, name in zip(parts, node.input, strict=True) if name not in walk.axes]
    letter = letters.pop()
    if not arrow or "." in terms or letters or letter not in result or any(letter in part for part in others):
        raise _StopError("sums over images")
    return result.index(letter)


def _per_channel(walk: _Walk, node: onnx.NodeProto) -> int:
    axis = walk.only(node, 0)
    scales = math.prod(walk.sizes(node.input[1]))
    if scales != 1 and (
        attribute(node, "block_size", 0) or attribute(node, "axis", 1) % walk.rank(node.input[0]) == axis
    ):
        raise _StopError("has a scale for each image")
    return axis


def _named(rule: Callable[[_Walk, onnx.NodeProto], int | tuple[int, ...]], names: Sequence[str]) -> dict[str, Callable]:
    return dict.fromkeys(names, rule)


_FIRST = (
    *("Conv", "ConvTranspose", "AveragePool", "MaxPool", "LpPool", "GridSample"),
    *("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "BatchNormalization", "InstanceNormalization"),
    *("GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth"),
)
_RULES: dict[str, Callable[[_Walk, onnx.NodeProto], int | tuple[int, ...]]] = {
    **_named(_elementwise, (*UNARY, *NARY)),
    **_named(_first, _FIRST),
    **_named(_resize, ("Resize", "Upsample")),
    **_named(_axis(lambda version: -1 if version >= 13 else 1), ("Softmax", "LogSoftmax", "Hardmax")),
    **_named(_axis(lambda version: -1), ("LpNormalization", "TopK")),
    **_named(_axis(lambda version: 0), ("ArgMax", "ArgMin", "Split")),
    **_named(_layer_norm, ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")),
    **_named(_recurrent, ("LSTM", "GRU", "RNN")),
    **_named(_per_channel, ("QuantizeLinear", "DequantizeLinear")),
    **_named(
        _reduce,
        [
            f"Reduce{kind}"
            for kind in ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"]
        ],
    ),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Pad": _pad,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "Attention": _attention,
    "Einsum": _einsum,
}
