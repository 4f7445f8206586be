"""What a translator sees of a node while the module is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import onnx
import torch
from torch import Tensor

from ...errors import ModelError
from ..protos import Shape, attribute
from .values import numbers, torch_type

if TYPE_CHECKING:
    from .program import Program

__all__ = ["Branch", "Facts", "Node", "Operand"]

Operand = Callable[[Sequence[Tensor | None]], "list[int] | None"]
"""The kernel's inputs -> the operand's integers, None where it is left out."""


@dataclass(frozen=True)
class Facts:
    """What is known of a graph's tensors, by name."""

    opsets: Mapping[str, int]
    """Domain -> version."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    types: Mapping[str, int] = field(default_factory=dict)
    """Element types, as ONNX numbers them."""
    readers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Operators that read a tensor; "" for a graph output or a subgraph."""
    operands: Mapping[tuple[str, int], np.ndarray] = field(default_factory=dict)
    """(Node name, input position) -> the operand that is used in place of the graph's own."""
    kept: frozenset[str] = frozenset()
    """Initializers: the module holds them, so that what happens to them lasts."""


@dataclass(frozen=True)
class Branch:
    """A subgraph of a node."""

    program: Program
    captured: tuple[int, ...]
    """What it reads from outside: positions among the inputs that the node has on top of its own."""


@dataclass(frozen=True)
class Node:
    """One node, with the facts that hold for its tensors."""

    proto: onnx.NodeProto
    facts: Facts
    branches: Mapping[str, Branch] = field(default_factory=dict)
    """Subgraphs by their attribute."""
    known: Mapping[int, np.ndarray] = field(default_factory=dict)
    """Position -> an input whose values are known when the module is built: small constants that do not train."""

    @property
    def operator(self) -> str:
        return self.proto.op_type

    @property
    def name(self) -> str:
        return self.proto.name or next((name for name in self.proto.output if name), "")

    @property
    def opset(self) -> int:
        """Version of the operator set that the node belongs to."""
        domain = "" if self.proto.domain == "ai.onnx" else self.proto.domain
        return self.facts.opsets.get(domain, 1)

    @property
    def outputs(self) -> int:
        return len(self.proto.output)

    def get(self, name: str, default: object = None) -> object:
        """An attribute: a number, text, a list, an array for tensors; `default` where it is absent."""
        value = attribute(self.proto, name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, position: int) -> bool:
        """Whether the input is there."""
        return len(self.proto.input) > position and bool(self.proto.input[position])

    def wants(self, position: int) -> bool:
        """Whether the output is read or at least named."""
        return len(self.proto.output) > position and bool(self.proto.output[position])

    def constant(self, position: int) -> np.ndarray | None:
        """The input's values where they are known when the module is built."""
        return self.known.get(position)

    def number(self, position: int) -> float | int | None:
        """The single entry of a constant input."""
        value = self.constant(position)
        return None if value is None or value.size != 1 else value.reshape(-1)[0].item()

    def shape(self, position: int) -> Shape | None:
        return self.facts.shapes.get(self.proto.input[position]) if self.has(position) else None

    def type(self, position: int) -> int | None:
        """ONNX element type of an input."""
        return self.facts.types.get(self.proto.input[position]) if self.has(position) else None

    def output_type(self, position: int = 0) -> int | None:
        """ONNX element type of an output."""
        return self.facts.types.get(self.proto.output[position])

    def readers(self, position: int = 0) -> frozenset[str]:
        """Operators that read an output; "" among them where it leaves the graph."""
        return self.facts.readers.get(self.proto.output[position], frozenset())

    def operand(self, position: int, name: str = "") -> Operand:
        """Integers given as the attribute `name` (in older operator sets), or as an input, constant or computed."""
        known = self.get(name) if name else None
        if known is None and self.has(position):
            constant = self.constant(position)
            if constant is None:
                return lambda inputs: numbers(inputs[position])
            known = constant.reshape(-1).tolist()
        if known is None:
            return lambda inputs: None
        fixed = [int(entry) for entry in np.atleast_1d(known)]
        return lambda inputs: fixed

    def dtype(self, kind: int) -> torch.dtype:
        """The type that stands for an ONNX element type inside the module.

        Raises:
            ModelError: torch has none.
        """
        try:
            return torch_type(kind)
        except ModelError as error:
            self.refuse(str(error))

    def refuse(self, why: str) -> NoReturn:
        """Say that torch cannot do this.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.operator} {self.name!r}: {why}: no torch module can be made of this model")
