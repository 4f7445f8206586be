"""Numbers that can be trusted: latency on a device, ratios of the same minutes, and what one layer costs.

Imports neither torch nor any other room, so that a service on a small board can use it.
"""

from .comparator import Comparator
from .device import Device
from .explain import NodeTime, node_times
from .inputs import example_inputs
from .latency import compare, compare_many, measure
from .layers import LayerShape
from .model_layers import layer_shapes
from .results import Latency, Ratio
from .session import Model, Session, open_session
from .table import LatencyTable, useful_widths

__all__ = [
    "Comparator",
    "Device",
    "Latency",
    "LatencyTable",
    "LayerShape",
    "Model",
    "NodeTime",
    "Ratio",
    "Session",
    "compare",
    "compare_many",
    "example_inputs",
    "layer_shapes",
    "measure",
    "node_times",
    "open_session",
    "useful_widths",
]
