"""ONNX in, ONNX out: which channels live and die together, and taking them out.

`load` gives a model in the form that the rest works on; `analyze` groups its coupled channels; `slim` removes units of
groups; `verify` checks a slim model against the original; `rule` teaches the analysis an operator; `save` writes a file.
"""

from .analysis import analyze
from .group import ChannelAnalysis, ChannelGroup, Frozen, Role, Slice, Slot
from .load import load
from .rules import rule
from .slim import Removal, slim
from .verify import verify

__all__ = [
    "ChannelAnalysis",
    "ChannelGroup",
    "Frozen",
    "Removal",
    "Role",
    "Slice",
    "Slot",
    "analyze",
    "load",
    "rule",
    "slim",
    "verify",
]
