"""The registry: operator name -> how torch computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .node import Node

__all__ = ["Context", "Kernel", "Operator", "TensorList", "find", "names", "operator"]


class TensorList(tuple[Tensor, ...]):
    """An ONNX sequence: one value of a graph, where a plain tuple is several outputs."""


Kernel = Callable[..., "Tensor | TensorList | tuple[Tensor | None, ...]"]
"""What runs: the node's inputs in order (None where one is left out) -> its output, or a tuple of its outputs."""
Translator = Callable[["Node"], Kernel]


@dataclass(frozen=True)
class Context:
    """What a kernel registered with `context=True` is told first."""

    training: bool
    """`module.train()` was called."""
    device: torch.device
    dropout: bool = False
    """Dropout drops: in training, where `module.dropout` is set."""


@dataclass(frozen=True)
class Operator:
    """How one operator becomes torch.

    `translate` is called once when the module is built and gives the kernel. A kernel holds numbers, never tensors of
    the model: these are its inputs, or a copy of the module would share them. Inputs at the positions `host` are read
    as numbers (shapes, axes, bounds) and stay in the CPU's memory.
    """

    translate: Translator
    host: tuple[int, ...] = ()
    context: bool = False


_OPERATORS: dict[tuple[str, str], Operator] = {}


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def operator(
    *names: str, domain: str = "", host: tuple[int, ...] = (), context: bool = False
) -> Callable[[Translator], Translator]:
    """Register the decorated function as the translator of `names`; a later registration replaces an earlier one.

    Example, for a custom operator x + sin(a x)^2 / a:
        >>> from ortrim.graph.torch_module import operator
        >>> @operator("Snake", domain="my.ops")
        ... def snake(node):
        ...     return lambda x, a: x + (a * x).sin().square() / a
    """

    def register(translate: Translator) -> Translator:
        for name in names:
            _OPERATORS[_domain(domain), name] = Operator(translate, host, context)
        return translate

    return register


def find(domain: str, name: str) -> Operator | None:
    """The operator's entry, or None: then a model that has it is refused."""
    return _OPERATORS.get((_domain(domain), name))


def names() -> Iterator[str]:
    """Operators that have a translator, `domain::name` outside the default domain."""
    for domain, name in sorted(_OPERATORS):
        yield f"{domain}::{name}" if domain else name
