"""Whole branches: when every unit of a group goes, what read it is left with a constant.

A convolution without inputs gives its bias everywhere (zero padding adds nothing), so a residual branch collapses to
one number a channel. `Branches` says which groups allow that; `collapse_consumers` does it in a slim model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from .group import Role
from .partition import Partition
from .protos import attribute, captured
from .rules.elementwise import UNARY
from .walk import Use, Walk

__all__ = ["Branches", "collapse_consumers", "sweep"]

_READERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_CHANNELWISE = {*UNARY, "BatchNormalization"} - {"Dropout"}
_JOINS = {"Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Mean"}


class Branches:
    """Which sets of units may go as a whole.

    Asked one after the other, and any of those that may go can go together: what one of them needs alive, no other
    turns into a constant.
    """

    def __init__(self, walk: Walk, uses: Sequence[Use], partition: Partition) -> None:
        self._walk = walk
        self._nodes = {node.name: node for node in walk.model.graph.node}
        self._order = {node.name: place for place, node in enumerate(walk.model.graph.node)}
        self._carried = {name: partition.classes(roots) for name, roots in partition.carried.items()}
        """Tensor -> the classes of units that it carries."""
        self._tensors: dict[int, list[str]] = defaultdict(list)
        """Class -> the tensors that carry it."""
        for name, classes in self._carried.items():
            for number in classes:
                self._tensors[number].append(name)
        self._read_by: dict[int, list[tuple[str, frozenset[int]]]] = defaultdict(list)
        """Class -> the consumers that read it, with all classes that they read."""
        for use, roots in zip(uses, partition.uses, strict=True):
            if use.role is Role.CONSUMER:
                classes = partition.classes(roots)
                for number in classes:
                    self._read_by[number].append((use.node, classes))
        self._constants: set[str] = set()
        """Tensors that become constants if what may go does go."""
        self._anchors: set[str] = set()
        """Tensors that give such constants their full shape."""

    def removable(self, number: int) -> bool:
        """Whether the graph stays whole without all units of a class.

        Every tensor that carries them must carry nothing else, every node that reads such a tensor must die with it or
        read it through a weight, and what such a reader gives must end in an elementwise operator with a live operand.
        """
        readers = self._read_by[number]
        if not readers or any(len(classes) > 1 for _, classes in readers):
            return False
        consumers = dict.fromkeys(node for node, _ in readers)
        if any(not self._walk.is_constant(name) for node in consumers for name in self._nodes[node].input[2:] if name):
            return False  # a computed bias is not left behind as a constant
        if any(name in self._walk.stored for node in consumers for name in self._nodes[node].input):
            return False  # nor is one of integers
        carried = {name for name in self._tensors[number] if not self._walk.is_constant(name)}
        for name in carried:
            if len(self._carried[name]) > 1:
                return False
            for node in self._walk.readers(name):
                dies = all(output in carried for output in node.output if output)
                if not dies and not (node.name in consumers and node.op_type in _READERS):
                    return False
        # A recurrent cell reads its own state: it dies with its units.
        return self._absorbed(
            [self._nodes[name].output[0] for name in consumers if self._nodes[name].op_type in _READERS]
        )

    def _absorbed(self, constants: Sequence[str]) -> bool:
        """Whether constants that stand in for `constants` all end in a join with live data of the full shape."""
        known, anchors = set(constants), set[str]()
        if any(self._walk.read_outside(name) for name in known):
            return False
        waiting = sorted({self._order[node.name] for name in known for node in self._walk.readers(name)})
        while waiting:  # in topological order: what feeds a node has been decided
            place = heappop(waiting)
            while waiting and waiting[0] == place:
                heappop(waiting)
            node = self._walk.model.graph.node[place]
            live = [name for name in node.input if name and name not in known and not self._walk.is_constant(name)]
            if live:
                shape = self._walk.shape(node.output[0])
                full = (name for name in live if self._walk.shape(name) == shape and name not in self._constants)
                anchor = next(full, None)
                if node.op_type not in _JOINS or anchor is None:
                    return False
                anchors.add(anchor)
            elif self._follows(node):
                known.add(node.output[0])
                for reader in self._walk.readers(node.output[0]):
                    heappush(waiting, self._order[reader.name])
            else:
                return False
        if not known.isdisjoint(self._anchors):
            return False
        self._constants |= known
        self._anchors |= anchors
        return True

    def _follows(self, node: onnx.NodeProto) -> bool:
        """Whether the node can be evaluated here and now, channel by channel, without anyone missing its output."""
        plain = node.op_type in _CHANNELWISE | _JOINS and not node.domain and len(node.output) == 1
        return plain and not self._walk.read_outside(node.output[0])


def _constant_of(node: onnx.NodeProto, weights: dict[str, np.ndarray], rank: int) -> np.ndarray:
    """What a reader without inputs gives, with size 1 on every axis but that of its outputs."""
    on_right = node.input[1] in weights
    weight = weights[node.input[1 if on_right else 0]]
    bias = weights.get(node.input[2]) if len(node.input) > 2 else None
    if node.op_type in ("Conv", "ConvTranspose"):
        groups = attribute(node, "group", 1)
        outputs = weight.shape[0] if node.op_type == "Conv" else weight.shape[1] * groups
        values = np.zeros(outputs, weight.dtype) if bias is None else bias
        return values.reshape((1, -1) + (1,) * (rank - 2))
    if node.op_type == "Gemm":
        columns, transposed = (0, "transB") if on_right else (1, "transA")
        outputs = weight.shape[columns if attribute(node, transposed, 0) else 1 - columns]
        values = np.zeros((), weight.dtype) if bias is None else bias * attribute(node, "beta", 1.0)
        shape = (1, outputs) if on_right else (outputs, 1)
        return np.broadcast_to(values, np.broadcast_shapes(values.shape, shape)).astype(weight.dtype)
    outputs = weight.shape[-1 if on_right else -2]
    shape = (1,) * (rank - 1) + (outputs,) if on_right else (1,) * (rank - 2) + (outputs, 1)
    return np.zeros(shape, weight.dtype)


def collapse_consumers(model: onnx.ModelProto, consumers: Iterable[str], ranks: dict[str, int]) -> None:
    """Replace, in place, the named readers by their constants, follow these to where they meet live data, and sweep.

    `model` is a slim copy in which the readers have no inputs left; `ranks` gives the rank of their outputs. A constant
    keeps the name of the tensor that it replaces.
    """
    graph, gone = model.graph, set(consumers)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    known: dict[str, np.ndarray] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.name in gone and node.op_type in _READERS:
            known[node.output[0]] = _constant_of(node, weights, ranks[node.output[0]])
        elif any(name in known for name in node.input) and all(
            name in known or name in weights for name in node.input if name
        ):
            known[node.output[0]] = _evaluate(model, node, {**weights, **known})
        else:
            kept.append(node)
    outputs = {value.name for value in graph.output}.union(*map(captured, kept))
    kept = _bypass(kept, known, outputs)
    used = {name for node in kept for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in known.items() if k in used)
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(fresh)
    sweep(model)


def _evaluate(model: onnx.ModelProto, node: onnx.NodeProto, values: dict[str, np.ndarray]) -> np.ndarray:
    names = [name for name in node.input if name]
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape
        )
        for name in names
    ]
    output = onnx.helper.make_empty_tensor_value_info(node.output[0])
    single = onnx.helper.make_model(
        onnx.helper.make_graph([node], "constant", inputs, [output]),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    session = onnxruntime.InferenceSession(single.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: values[name] for name in names})[0]


def _bypass(nodes: list[onnx.NodeProto], known: dict[str, np.ndarray], outputs: set[str]) -> list[onnx.NodeProto]:
    """Leave out additions of zero, and a Relu of what is a Relu already once the addition between them is gone."""
    renamed: dict[str, str] = {}
    made_by = {node.output[0]: node.op_type for node in nodes}
    kept = []
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        if node.output[0] not in outputs:
            zeros = [name for name in node.input if name in known and not known[name].any()]
            if (node.op_type == "Add" and zeros) or (node.op_type == "Sub" and node.input[1] in zeros):
                renamed[node.output[0]] = next(name for name in node.input if name not in zeros)
                continue
            if node.op_type == "Relu" and node.input[0] in renamed.values() and made_by.get(node.input[0]) == "Relu":
                renamed[node.output[0]] = node.input[0]
                continue
        kept.append(node)
    return kept


def sweep(model: onnx.ModelProto) -> None:
    """Remove, in place, nodes whose outputs nobody reads, and initializers without a use."""
    graph = model.graph
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in used for name in node.output):
            used.update(node.input)
            used.update(captured(node))
            kept.append(node)
    if len(kept) < len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
        del graph.node[:]
        graph.node.extend(copies)
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in used:
            del graph.initializer[place]
