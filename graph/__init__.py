"""ONNX in, ONNX out: which channels live and die together, and taking them out.

`load` gives a model in the form that the rest works on; `analyze` groups its coupled channels; `slim` removes units of
groups; `verify` checks a slim model against the original; `finish` makes it fit to be written; `reduce_strength` says
the same in operators that cost less; `macs` and `parameters` say how large a model is; `weight_files` what lies beside
it; `misfit` whether it takes and gives what another does; `rule` teaches the analysis an operator. `to_torch` makes a
torch module of a model, `write_back` puts its parameters back;
torch is imported when one of the two is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .analysis import analyze
from .cost import macs, node_macs, parameters
from .finish import finish
from .group import ChannelAnalysis, ChannelGroup, Frozen, Role, Slice, Slot
from .interface import misfit
from .load import ensure_loaded, load, read, weight_files
from .rules import rule
from .slim import Removal, slim
from .strength import reduce_strength
from .verify import verify

if TYPE_CHECKING:
    from .torch_module import to_torch, write_back

__all__ = [
    "ChannelAnalysis",
    "ChannelGroup",
    "Frozen",
    "Removal",
    "Role",
    "Slice",
    "Slot",
    "analyze",
    "ensure_loaded",
    "finish",
    "load",
    "macs",
    "misfit",
    "node_macs",
    "parameters",
    "read",
    "reduce_strength",
    "rule",
    "slim",
    "to_torch",
    "verify",
    "weight_files",
    "write_back",
]


def __getattr__(name: str) -> object:
    if name in ("to_torch", "write_back"):
        from . import torch_module

        return getattr(torch_module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
