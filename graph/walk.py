"""What a rule sees of the graph while labels are propagated, and what it may say about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .group import Role
from .labels import Atoms, collapse, varying
from .protos import Dim, Shape, attribute, captured, opset, tensor_shapes
from .shape_values import Value, shape_values
from .stored import stored_weights

__all__ = ["Follower", "Use", "Walk"]

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
LARGEST_SOURCE = 2**20
"""Entries of a constant that is followed entry by entry; larger ones (tables) have no labels."""


@dataclass(frozen=True)
class Use:
    """An initializer's axis and the atom of each of its entries."""

    node: str
    tensor: str
    axis: int
    labels: np.ndarray
    role: Role


@dataclass(frozen=True)
class Follower:
    """A constant combined elementwise: which of its axes are sliced is known only when all labels are."""

    node: str
    tensor: str
    labels: np.ndarray
    """Of the constant's own rank; size 1 where the constant broadcasts."""
    role: Role = Role.FOLLOWER


class Walk:
    """Labels of all tensors seen so far, and the facts that rules record.

    Rules read labels with `labels`, combine them with `union`, make new ones with `fresh`, and write those of their
    outputs with `write`. `produce`, `consume` and `follow` tie initializers to labels; `freeze`, `pin` and `blur` say
    what cannot go and what is not exact.
    """

    def __init__(self, model: onnx.ModelProto, *, crosswise: bool = False) -> None:
        """`crosswise`: where channels lie on two axes, as heads and as channels of every head, units are along the
        other one than without it."""
        self.model = model
        self.crosswise = crosswise
        self.crossed = False
        """Whether a rule had that choice."""
        self.opset = opset(model)
        self.shapes: Mapping[str, Shape] = tensor_shapes(model)
        self.atoms = Atoms()
        self.arrays: dict[str, np.ndarray] = {}
        self.uses: list[Use] = []
        self.followers: list[Follower] = []
        self.opaque: dict[str, str] = {}
        """Layers with weights that no group can reach, and why."""
        self.stored = stored_weights(model)
        """Weights behind a DequantizeLinear."""
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outside = {value.name for value in model.graph.output}.union(*map(captured, model.graph.node))

    @cached_property
    def _makers(self) -> Mapping[str, onnx.NodeProto]:
        return {name: node for node in self.model.graph.node for name in node.output}

    @cached_property
    def _values(self) -> Mapping[str, Value]:
        return shape_values(self.model)

    # -- what is known of a tensor ------------------------------------------------------------------------------------
    def is_constant(self, name: str) -> bool:
        """Whether the tensor is an initializer, or a weight stored as integers (`stored`)."""
        return name in self._initializers or name in self.stored

    def constant(self, name: str) -> np.ndarray | None:
        """Values of an initializer, or None for a computed tensor (and for an operand left out, '')."""
        tensor = self._initializers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def sizes(self, name: str) -> tuple[Dim, ...] | None:
        """What is known of a vector of integers, computed ones too, entry by entry (`shape_values`)."""
        value = self._values.get(name)
        return None if value is None else tuple(value.ravel().tolist())

    def shape(self, name: str) -> Shape | None:
        """Sizes, symbols and unknowns of a tensor; None where not even the rank is known."""
        return self.shapes.get(name)

    def labels(self, name: str) -> np.ndarray:
        """The tensor's label array, of the tensor's rank (rank 0 where it is unknown), size 1 where labels agree.

        Initializers stay, unless a rule gives them labels (`source`).
        """
        if name not in self.arrays and name in self._initializers:
            return self.stays(len(self._initializers[name].dims), f"is the constant {name!r}")
        labels = self.atoms.find(self.arrays[name])
        return collapse(labels, varying(labels))

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that computes the tensor."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Nodes that take the tensor as an input."""
        return self._readers.get(name, [])

    def read_outside(self, name: str) -> bool:
        """Whether the tensor is a graph output, or read by a subgraph: `readers` does not tell all."""
        return name in self._outside

    def source(self, node: onnx.NodeProto, name: str) -> np.ndarray:
        """Labels of data that may be an initializer (a class token, a position table): then it makes its channels.

        Which of its axes is the channel axis is not known here; every entry gets an atom, and ties decide.
        """
        if name not in self.arrays:
            tensor = self._initializers[name]
            shape = tensor.dims
            if tensor.data_type not in FLOATS or int(np.prod(shape)) > LARGEST_SOURCE:  # counts, or a table
                return self.stays(len(shape), f"the constant {name!r} holds no channels that can be followed")
            self.arrays[name] = self.fresh(int(np.prod(shape))).reshape(shape)
            self.followers.append(Follower(node.name, name, self.arrays[name], Role.PRODUCER))
        return self.labels(name)

    def operand(self, node: onnx.NodeProto, position: int, key: str) -> list[int] | None:
        """Integers that newer operator sets take as input `position` and older ones as attribute `key`.

        None when left out or computed at run time (`computed` tells which).
        """
        if position < len(node.input) and node.input[position]:
            values = self.constant(node.input[position])
            return None if values is None else [int(value) for value in values.ravel()]
        values = attribute(node, key)
        if values is None:
            return None
        return [int(value) for value in values] if isinstance(values, list | tuple | np.ndarray) else [int(values)]

    def computed(self, node: onnx.NodeProto, position: int) -> bool:
        """Whether the operand is there but known at run time only."""
        given = position < len(node.input) and node.input[position]
        return bool(given) and not self.is_constant(node.input[position])

    # -- what a rule records ------------------------------------------------------------------------------------------
    def write(self, name: str, labels: np.ndarray) -> None:
        """Labels of an output; sizes must be 1 or the tensor's own."""
        self.arrays[name] = labels

    def fresh(self, count: int) -> np.ndarray:
        """New atoms, as a vector."""
        return self.atoms.fresh(count)

    def stays(self, rank: int, reason: str) -> np.ndarray:
        """Labels of a tensor none of whose positions may go."""
        atom = self.atoms.fresh(1)
        self.atoms.freeze(atom, reason)
        return atom.reshape((1,) * rank)

    def union(self, a: np.ndarray, b: np.ndarray) -> None:
        """These go together, position by position (after broadcasting)."""
        self.atoms.union(a, b)

    def tie(self, labels: np.ndarray, axes: Iterable[int]) -> np.ndarray:
        """Make labels equal along `axes`, and give the array with those axes of size 1."""
        kept = [axis for axis in range(labels.ndim) if axis not in set(axes)]
        first = collapse(labels, kept)
        self.atoms.union(labels, first)
        return self.atoms.find(first)

    def choose(self, labels: np.ndarray, outer: Iterable[int], inner: Iterable[int]) -> np.ndarray:
        """Where labels differ along `outer` and along `inner` axes, tie one of the two sides (see `crosswise`)."""
        outer, inner = set(outer).intersection(varying(labels)), set(inner).intersection(varying(labels))
        if not outer or not inner:
            return labels
        self.crossed = True
        return self.tie(labels, inner if self.crosswise else outer)

    def freeze(self, labels: np.ndarray, reason: str) -> None:
        """Nothing that carries these labels can go."""
        self.atoms.freeze(labels, reason)

    def give_up(self, node: onnx.NodeProto, reason: str) -> None:
        """Freeze everything that the node reads and makes."""
        inner = captured(node)
        for name in {*node.input} | inner:
            if name in self.arrays:
                self.freeze(self.labels(name), reason)
        for name in filter(None, node.output):
            self.write(name, self.stays(len(self.shape(name) or ()), reason))
        if inner or any(len(self.shape(name) or ()) > 1 for name in node.input if self.is_constant(name)):
            self.opaque[node.name] = reason

    def pin(self, labels: np.ndarray, axes: Iterable[int], reason: str) -> np.ndarray:
        """No position along `axes` may go. Gives the array without the axes.

        Where labels differ along other axes too, a unit is a whole row there; else they are frozen.
        """
        axes = set(axes)
        kept = [axis for axis in range(labels.ndim) if axis not in axes]
        differ = set(varying(labels))
        if differ & axes:
            self.tie(labels, axes)
            if not differ - axes:
                self.freeze(labels, reason)
        return self.atoms.find(collapse(labels, kept))

    def blur(self, labels: np.ndarray) -> None:
        """Removing any of these changes the others: not exact."""
        self.atoms.blur(labels)

    def produce(self, node: onnx.NodeProto, tensor: str, axis: int, labels: np.ndarray) -> None:
        self._use(node, tensor, axis, labels, Role.PRODUCER)

    def consume(self, node: onnx.NodeProto, tensor: str, axis: int, labels: np.ndarray) -> None:
        self._use(node, tensor, axis, labels, Role.CONSUMER)

    def follow(self, node: onnx.NodeProto, tensor: str, axis: int, labels: np.ndarray) -> None:
        self._use(node, tensor, axis, labels, Role.FOLLOWER)

    def _use(self, node: onnx.NodeProto, tensor: str, axis: int, labels: np.ndarray, role: Role) -> None:
        if self.is_constant(tensor):
            self._alone(tensor, labels)
            self.uses.append(Use(node.name, tensor, axis, labels.ravel(), role))
        else:
            self.freeze(labels, f"the weight {tensor!r} of {node.op_type} {node.name!r} is computed at run time")

    def follow_elementwise(self, node: onnx.NodeProto, tensor: str, labels: np.ndarray) -> None:
        """A constant that is combined elementwise with data of these labels (aligned to the constant's rank)."""
        self._alone(tensor, labels)
        self.followers.append(Follower(node.name, tensor, labels))

    def _alone(self, tensor: str, labels: np.ndarray) -> None:
        """`load` gives every use of a weight its own copy, but not of integers: most of these are shapes."""
        if labels.size > 1 and (len(self.readers(tensor)) > 1 or self.read_outside(tensor)):
            self.freeze(labels, f"shares the constant {tensor!r} with another node")
