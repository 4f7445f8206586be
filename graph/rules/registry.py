"""The registry: operator name -> rule, and what slimming may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from ..edit import Edit
    from ..walk import Walk

__all__ = ["Rule", "find", "names", "rule"]

Label = Callable[["Walk", onnx.NodeProto], None]
Fix = Callable[["Edit", onnx.NodeProto], None]


@dataclass(frozen=True)
class Rule:
    """How one operator treats channels.

    `label` reads the labels of the node's inputs and writes those of its outputs; `fix`, where there is one, mends
    attributes and integer operands (group, shape, bounds) of the node's copy once positions are gone. Weights are
    sliced without the rule's help. `repeats`: the rule can take channels on an axis of size `12*batch`, say, where the
    twelve labels repeat; without it such channels stay.
    """

    label: Label
    fix: Fix | None = None
    repeats: bool = False


_RULES: dict[tuple[str, str], Rule] = {}


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def rule(*operators: str, domain: str = "", fix: Fix | None = None, repeats: bool = False) -> Callable[[Label], Label]:
    """Register the decorated function as the label rule of `operators`; a later registration replaces an earlier one.

    Example, for a custom operator that works on each channel by itself:
        >>> from ortrim.graph import rule
        >>> @rule("Snake", domain="my.ops")
        ... def snake(walk, node):
        ...     walk.write(node.output[0], walk.labels(node.input[0]))
    """

    def register(label: Label) -> Label:
        for operator in operators:
            _RULES[_domain(domain), operator] = Rule(label, fix, repeats)
        return label

    return register


def find(node: onnx.NodeProto) -> Rule | None:
    """The node's rule, or None: then everything that the node touches stays."""
    return _RULES.get((_domain(node.domain), node.op_type))


def names() -> Iterator[str]:
    """Operators that have a rule, `domain::name` outside the default domain."""
    for domain, operator in sorted(_RULES):
        yield f"{domain}::{operator}" if domain else operator
