"""The job: search for a plan that meets a latency target, recover the winner, verify, measure, report.

`compress` and `Target` are what most programs need. They are looked up when they are first used, so that a command that
needs neither does not wait for their imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline import Compressed, compress
    from .target import Target

__all__ = ["Compressed", "Target", "compress"]

_HOMES = {"Compressed": "pipeline", "Target": "target", "compress": "pipeline"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
