"""The groups as trees: which layers make, pass on and read the channels of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from ...graph import Role
from .names import Names, fold

if TYPE_CHECKING:
    from .layer_facts import Member

__all__ = ["group_tree"]

_ROLES = {Role.PRODUCER: "made by", Role.FOLLOWER: "on the way", Role.CONSUMER: "read by"}
_LABEL = max(map(len, _ROLES.values())) + 2
_GUIDES = 4
"""What rich draws before a branch takes so many columns."""
_MOST = 8
"""Rows of one role, where not all are asked for."""

Facts = tuple[str, str, str]
"""How many channels, operator, shape of the weight."""


def group_tree(name: str, facts: Sequence[str], members: Iterable[Member], width: int, *, whole: bool) -> Tree:
    """One group: its facts in the root, and a branch for each role that its layers have.

    Layers of one operator and one shape are listed together, and what their names have in common is said once.

    Args:
        whole: show all layers of a role, however many there are.
    """
    figures = ", ".join(facts)
    beside = len(name) + 2 + len(figures) <= width
    root = Text.assemble((name, "bold"), "  " if beside else "\n  ", figures)
    tree = Tree(root, guide_style="dim")
    of_role: dict[Role, list[Member]] = defaultdict(list)
    for member in members:
        of_role[member.role].append(member)
    for role, label in _ROLES.items():
        if of_role[role]:
            lines = _lines(of_role[role], width - _GUIDES - _LABEL, whole=whole)
            tree.add(Text("\n".join(f"{'' if i else label:{_LABEL}}{line}" for i, line in enumerate(lines))))
    return tree


def _lines(members: Sequence[Member], width: int, *, whole: bool) -> list[str]:
    """What the layers are, and their names: beside it, or below where they are long. A name is never cut."""
    rows = _rows(members)
    shown = rows if whole or len(rows) <= _MOST else rows[: _MOST - 1]
    starts = _aligned([facts for facts, _ in shown])
    blank = " " * len(starts[0])
    room = width - len(blank) - 2
    beside = all(len(str(names)) <= room for _, names in shown)
    lines: list[str] = []
    before = ""
    for start, (_, names) in zip(starts, shown, strict=True):
        if beside:
            lines.append(f"{start if start != before else blank}  {names}")
        else:
            lines += [start.rstrip()] * (start != before)
            lines += [f"  {line}" for line in names.lines(width - 2)]
        before = start
    if hidden := sum(len(names) for _, names in rows[len(shown) :]):
        lines.append(f"and {hidden} more; -v shows all")
    return lines


def _rows(members: Sequence[Member]) -> list[tuple[Facts, Names]]:
    """What layers have in common, and names; in graph order of the first."""
    alike: dict[Facts, list[str]] = defaultdict(list)
    for member in members:
        # A vector is as long as it has channels: the first column says that already.
        shape = "x".join(map(str, member.shape)) if len(member.shape) > 1 else ""
        alike[member.share, member.op, shape].append(member.layer)
    return [(facts, names) for facts, layers in alike.items() for names in fold(layers)]


def _aligned(rows: Sequence[Facts]) -> list[str]:
    """The rows as lines of one length, without columns that are empty."""
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(len, column)) for column in columns]
    return ["  ".join(map(str.ljust, cells, widths)) for cells in zip(*columns, strict=True)]
