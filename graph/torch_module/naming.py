"""Where the module holds an initializer: dots in its name become submodules, as they were before the export.

torch's names may not hold dots, be empty, or be those of a module's own attributes, and a parameter cannot be a
submodule too. A name that breaks one of these rules loses its dots (`a.b` -> `a/b`) and gets underscores at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

__all__ = ["Container", "paths"]


class Container(nn.Module):
    """Holds parameters and buffers, and computes nothing."""


def paths(names: Iterable[str], root: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """Initializer -> the way to it from `root`: submodules, then the parameter's own name."""
    names = list(names)
    reserved, inner = set(dir(root)), set(dir(Container()))
    prefixes = {
        name[:place] for name in names for place, letter in enumerate(name) if letter == "."
    }  # of "a.b.c": "a" and "a.b"
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        parts = tuple(name.split("."))
        plain = all(parts) and parts[0] not in reserved and inner.isdisjoint(parts[1:])
        if plain and name not in prefixes:
            found[name] = parts
    taken = reserved | {path[0] for path in found.values()}
    for name in names:
        if name not in found:
            flat = name.replace(".", "/") or "_"
            while flat in taken:
                flat += "_"
            taken.add(flat)
            found[name] = (flat,)
    return found
