"""From a graph to a program: slots, what lies where, and when a value is read for the last time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor

from ...errors import ModelError
from ..protos import captured
from .node import Branch, Facts, Node
from .operators.generating import constant_value
from .program import NOTHING, UNUSED, Program, Step
from .registry import Kernel, Operator, find
from .trainable import FLOATS
from .values import as_tensor

__all__ = ["Builder", "Catalog"]

_SMALL = 4096
"""Entries: no larger constant is read as an operand."""
_SIZES = ("Shape", "Size")


@dataclass
class Catalog:
    """Constants of a model and its subgraphs by name, and what is known of them."""

    tensors: dict[str, onnx.TensorProto]
    trained: frozenset[str]
    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    """Output of a node -> the kernel that runs in place of its operator's own."""

    def add(self, name: str, tensor: onnx.TensorProto) -> str:
        """Put in a constant that is no initializer of the model; gives the name that it has here."""
        while name in self.tensors:
            name += "_"
        self.tensors[name] = tensor
        return name

    def is_operand(self, name: str) -> bool:
        """Whether it may be read as numbers."""
        return name not in self.trained and math.prod(self.tensors[name].dims) <= _SMALL

    def is_whole(self, name: str) -> bool:
        """Integers or truth values."""
        return self.tensors[name].data_type not in FLOATS


class Builder:
    """Of one graph; a subgraph has its own, which asks its parent for what the subgraph does not make."""

    def __init__(self, catalog: Catalog, facts: Facts, parent: Builder | None = None) -> None:
        self._catalog, self._facts, self._parent = catalog, facts, parent
        self._template: list[Tensor | None] = [None, None]
        self._values: dict[str, int] = {}
        """Slots of what the graph is given and computes."""
        self._on_host: set[str] = set()
        self._operands: dict[str, int] = {}
        """Slots of constants in the CPU's memory."""
        self._given: dict[tuple[str, bool], int] = {}
        self._aliases: dict[str, str] = {}
        """Names of constants in this graph -> in the catalog."""
        self._steps: list[Step] = []

    def build(self, graph: onnx.GraphProto, host: int = 0) -> Program:
        """The program; its inputs are the graph's, then what `outside` lists. The first `host` lie in the CPU's memory.

        Raises:
            ModelError: an operator without a translator, or one that torch cannot do in this form.
        """
        inputs = [self._make(value.name) for value in graph.input]
        self._on_host.update(value.name for value in graph.input[:host])
        if self._parent is not None:
            for tensor in graph.initializer:
                self._aliases[tensor.name] = self._catalog.add(tensor.name, tensor)
        for node in graph.node:
            self._add(node)
        outputs = tuple(self._data(value.name) for value in graph.output)
        there = tuple(p for p, value in enumerate(graph.output) if self._lies_on_host(value.name))
        given = (*inputs, *self._given.values())
        return Program(self._with_frees(outputs), given, outputs, there, tuple(self._template))

    @property
    def outside(self) -> list[tuple[str, bool]]:
        """What the program is given after the graph's inputs: names, and whether they are the catalog's."""
        return list(self._given)

    def _slot(self) -> int:
        self._template.append(None)
        return len(self._template) - 1

    def _make(self, name: str) -> int:
        if not name:
            return UNUSED
        self._values[name] = self._slot()
        return self._values[name]

    def _constant(self, name: str) -> str | None:
        """The catalog's name of a constant; None for what is computed."""
        key = self._aliases.get(name, name)
        return key if name not in self._values and key in self._catalog.tensors else None

    def _data(self, name: str) -> int:
        """The slot of a value, or of a constant as the module holds it."""
        if not name:
            return NOTHING
        if name in self._values:
            return self._values[name]
        key = self._constant(name)
        if key is None and self._parent is None:
            raise ModelError(f"the tensor {name!r} is read before any node makes it")
        return self._outside_slot(key or name, key is not None)

    def _outside_slot(self, name: str, constant: bool) -> int:
        if (name, constant) not in self._given:
            self._given[name, constant] = self._slot()
        return self._given[name, constant]

    def _operand(self, name: str) -> int:
        """The slot of what is read as numbers: constants lie in the CPU's memory."""
        key = self._constant(name)
        if key is None or key in self._catalog.trained:
            return self._data(name)
        if key not in self._operands:
            self._operands[key] = self._slot()
            self._template[-1] = as_tensor(self._catalog.tensors[key])
        return self._operands[key]

    def _lies_on_host(self, name: str) -> bool:
        if name in self._values or self._constant(name) is not None:
            return name in self._on_host
        return self._parent is not None and self._parent._lies_on_host(name)

    def _add(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            tensor = constant_value(node)
            if tensor is None:
                raise ModelError(f"Constant {node.name!r} holds text or a sparse tensor: torch has no such tensors")
            self._aliases[node.output[0]] = self._catalog.add(node.output[0], tensor)
            return
        entry = find(node.domain, node.op_type)
        if entry is None:
            kind = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise ModelError(
                f"{kind} {node.name or node.output[0]!r}: torch has no counterpart of this operator here; "
                "register one with ortrim.graph.torch_module.operator"
            )
        graphs = {item.name: item.g for item in node.attribute if item.type == onnx.AttributeProto.GRAPH}
        counters = 2 if node.op_type == "Loop" else 0  # the number of the round, and whether there is another
        bodies = {name: self._body(graph, counters) for name, graph in graphs.items()}
        outer = list(dict.fromkeys(item for builder, _ in bodies.values() for item in builder.outside))
        branches = {
            name: Branch(program, tuple(outer.index(item) for item in builder.outside))
            for name, (builder, program) in bodies.items()
        }
        seen = Node(node, self._facts, branches, self._known(node))
        own = self._catalog.kernels.get(node.output[0])
        kernel = own or entry.translate(seen)
        host = own is None and not branches and self._runs_on_host(node, entry)
        inputs = [
            self._operand(n) if n and (host or p in entry.host) else self._data(n) for p, n in enumerate(node.input)
        ]
        inputs += [self._outside_slot(name, True) if constant else self._data(name) for name, constant in outer]
        moves = [p for p, n in enumerate(node.input) if not host and p not in entry.host and self._lies_on_host(n)]
        self._steps.append(
            Step(
                f"{node.op_type} {seen.name!r}",
                kernel,
                entry.context and own is None,
                tuple(inputs),
                tuple(self._make(name) for name in node.output),
                tuple(moves),
                (),
            )
        )
        if host:
            self._on_host.update(filter(None, node.output))

    def _body(self, graph: onnx.GraphProto, host: int) -> tuple[Builder, Program]:
        values = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
        types = {name: kind.elem_type for name, kind in values.items()}
        types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
        shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        for node in graph.node:
            tensor = constant_value(node) if node.op_type == "Constant" else None
            if tensor is not None:
                types[node.output[0]], shapes[node.output[0]] = tensor.data_type, tuple(tensor.dims)
        facts = replace(
            self._facts,
            types={**self._facts.types, **types},
            shapes={**self._facts.shapes, **shapes},
            readers=readers(graph),
        )
        builder = Builder(self._catalog, facts, self)
        return builder, builder.build(graph, host)

    def _known(self, node: onnx.NodeProto) -> Mapping[int, np.ndarray]:
        """Inputs whose values are known."""
        known = {}
        for position, name in enumerate(node.input):
            override = self._facts.operands.get((node.name, position))
            key = self._constant(name) if name else None
            if override is not None:
                known[position] = override
            elif key is not None and self._catalog.is_operand(key):
                known[position] = numpy_helper.to_array(self._catalog.tensors[key])
        return known

    def _runs_on_host(self, node: onnx.NodeProto, entry: Operator) -> bool:
        """Whether all that it reads as data is shape arithmetic."""
        if node.op_type in _SIZES or not node.input:
            return bool(node.input)
        data = [name for position, name in enumerate(node.input) if name and position not in entry.host]
        constants = [key for key in map(self._constant, data) if key is not None]
        computed = [name for name in data if self._constant(name) is None]
        if not all(map(self._catalog.is_operand, constants)):
            return False
        if computed:
            return all(map(self._lies_on_host, computed))
        return all(map(self._catalog.is_whole, constants))

    def _with_frees(self, outputs: tuple[int, ...]) -> tuple[Step, ...]:
        """The steps, each with the slots that are read there for the last time."""
        seen, steps = {NOTHING, UNUSED, *outputs}, []
        for step in reversed(self._steps):
            used = {*step.inputs, *step.outputs} - seen
            seen |= used
            steps.append(replace(step, frees=tuple(sorted(used))))
        return tuple(reversed(steps))


def readers(graph: onnx.GraphProto) -> dict[str, frozenset[str]]:
    """Tensor -> operators that read it; "" where it leaves the graph or a subgraph reads it."""
    found: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, set()).add(node.op_type)
        for name in captured(node):
            found.setdefault(name, set()).add("")
    for value in graph.output:
        found.setdefault(value.name, set()).add("")
    return {name: frozenset(kinds) for name, kinds in found.items()}
