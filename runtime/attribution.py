"""Which nodes of a graph each kernel computes: what onnxruntime fused, moved and renamed, told by the tensors.

Optimising keeps the names of tensors at the borders of what is fused, and of nodes that stay as they are. Blocked nodes
are called after the tensor that they make (`TENSOR_nchwc`, with a number where that is taken), while that tensor gets a
made-up name; and where something behind a Conv is fused with it (the addition of a residual block), the node still goes
by the Conv's tensor. So

1. a kernel is the node that it shares name and operator with, or else computes the one whose tensor it makes, going by
   its name or its outputs;
2. a kernel whose operator stands further up (Conv of Conv, BatchNormalization, Relu) computes all up to there;
3. what follows it alone and cheaply (an activation, an addition) and belongs to nobody is part of it;
4. a kernel of another operator (LayerNormalization of nine small ones) computes all that leads to it from others;
5. what is still left, unless it was constant, belongs to the kernel that it follows.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import onnx

from .kernels import Kernel
from .layers import ACTIVATIONS, CONVOLUTIONS, PRODUCTS

__all__ = ["attribute", "main_node"]

_MADE_UP = re.compile(r"^InsertedPrecisionFreeCast_|/\w+Fusion/?$|(_nchwc)?(_token_\d+)?$")
_FOLLOWERS = ACTIVATIONS | {"Add", "BatchNormalization", "Mul", "Sum"}
_WORK = (*CONVOLUTIONS, *PRODUCTS)


def attribute(graph: onnx.GraphProto, kernels: Sequence[Kernel]) -> dict[str, tuple[onnx.NodeProto, ...]]:
    """Name of a kernel -> the nodes of `graph` that it computes, in graph order; none for what onnxruntime put in.

    Args:
        graph: the model's own, with a name of its own for every node.
        kernels: of the optimised graph, in its order.
    """
    return _Attribution(graph, kernels).result()


def main_node(kernel: Kernel, nodes: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
    """The node that a kernel is best known by: the one with its operator, else the layer among them, else the last."""
    ranks = [2 if node.op_type == _base(kernel) else node.op_type in _WORK for node in nodes]
    best = max(ranks)
    return nodes[ranks.index(best)] if best else nodes[-1]


class _Attribution:
    """Nodes are known by their place in the graph, in `_owner` with the kernel that they belong to."""

    def __init__(self, graph: onnx.GraphProto, kernels: Sequence[Kernel]) -> None:
        self._nodes = list(graph.node)
        self._kernels = [kernel for kernel in kernels if not kernel.is_reorder]
        self._maker = {name: place for place, node in enumerate(self._nodes) for name in node.output if name}
        self._readers: dict[str, list[int]] = defaultdict(list)
        for place, node in enumerate(self._nodes):
            for name in node.input:
                self._readers[name].append(place)
        self._fixed = _constant_tensors(graph)
        self._owner: dict[int, str] = {}

    def result(self) -> dict[str, tuple[onnx.NodeProto, ...]]:
        anchors = self._anchors()
        alike = [kernel for kernel in self._kernels if kernel.name in anchors and _base(kernel) in _WORK]
        for kernel in alike:
            self._claim(kernel, self._up_to_operator(anchors[kernel.name], _base(kernel)))
        for kernel in alike:
            self._claim(kernel, self._followers(anchors[kernel.name]))
        for kernel in self._kernels:
            anchor = anchors.get(kernel.name)
            if anchor is not None and self._nodes[anchor].op_type != kernel.op and _base(kernel) not in _WORK:
                self._claim(kernel, self._all_before(anchor))
        self._claim_rest({kernel.name: order for order, kernel in enumerate(self._kernels)})
        found: dict[str, list[onnx.NodeProto]] = {kernel.name: [] for kernel in self._kernels}
        for place in sorted(self._owner):
            found[self._owner[place]].append(self._nodes[place])
        return {name: tuple(nodes) for name, nodes in found.items()}

    def _anchors(self) -> dict[str, int]:
        """Rule 1."""
        places = {node.name: place for place, node in enumerate(self._nodes) if node.name}
        anchors = {}
        for kernel in self._kernels:
            place = self._anchor(kernel, places)
            if place is not None and place not in self._owner:
                anchors[kernel.name] = place
                self._owner[place] = kernel.name
        return anchors

    def _anchor(self, kernel: Kernel, places: Mapping[str, int]) -> int | None:
        """The node that a kernel is, or the one that made what it makes."""
        same = places.get(kernel.name)
        if same is not None and self._nodes[same].op_type == kernel.op:
            return same
        name = _plain(kernel.name)
        makers = (self._maker[tensor] for tensor in (name, *map(_plain, kernel.outputs)) if tensor in self._maker)
        return next(makers, places.get(kernel.name, places.get(name)))

    def _up_to_operator(self, place: int, op: str) -> list[int]:
        """Rule 2: the way up to the nearest node of that operator, nothing where there is none."""
        way = [place]
        while self._nodes[way[-1]].op_type != op:
            before = [self._maker[name] for name in self._nodes[way[-1]].input if name in self._maker]
            free = [maker for maker in before if maker not in self._owner and not self._is_constant(maker)]
            if len(free) != 1:
                return []
            way.append(free[0])
        return way

    def _followers(self, place: int) -> list[int]:
        """Rule 3."""
        found: list[int] = []
        while True:
            readers = [reader for name in self._nodes[place].output for reader in self._readers[name]]
            if len(readers) != 1 or readers[0] in self._owner or self._nodes[readers[0]].op_type not in _FOLLOWERS:
                return found
            (place,) = readers
            found.append(place)

    def _all_before(self, place: int) -> list[int]:
        """Rule 4."""
        found, open_ends = [place], [place]
        while open_ends:
            for name in self._nodes[open_ends.pop()].input:
                maker = self._maker.get(name)
                if maker is None or maker in self._owner or maker in found or self._is_constant(maker):
                    continue
                found.append(maker)
                open_ends.append(maker)
        return found

    def _claim_rest(self, order: dict[str, int]) -> None:
        """Rule 5, in graph order."""
        for place, node in enumerate(self._nodes):
            if place in self._owner or self._is_constant(place):
                continue
            makers = (self._maker[name] for name in node.input if name in self._maker)
            owners = [self._owner[maker] for maker in makers if maker in self._owner]
            if owners:
                self._owner[place] = max(owners, key=order.__getitem__)

    def _claim(self, kernel: Kernel, places: Iterable[int]) -> None:
        for place in places:
            self._owner.setdefault(place, kernel.name)

    def _is_constant(self, place: int) -> bool:
        return all(name in self._fixed for name in self._nodes[place].output if name)


def _plain(name: str) -> str:
    """A name without what onnxruntime added to it."""
    return _MADE_UP.sub("", name)


def _base(kernel: Kernel) -> str:
    """Operator without what contrib operators put in front: FusedConv, FusedGemm, FusedMatMul."""
    return kernel.op.removeprefix("Fused")


def _constant_tensors(graph: onnx.GraphProto) -> set[str]:
    """Initializers, and what is computed of nothing else."""
    fixed = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        if all(name in fixed for name in node.input) and not node.op_type.startswith("Random"):
            fixed.update(node.output)
    return fixed
