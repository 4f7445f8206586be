"""Numbers that can be trusted: latency on a device, ratios of the same minutes, and what one layer costs.

Imports neither torch nor any other room, so that a service on a small board can use it.
"""

from .comparator import Comparator
from .device import Device
from .explain import Explanation, LayerTime, Reorder, explain
from .host import usable_cores
from .inputs import batch_shapes, example_inputs, read_inputs
from .latency import compare, compare_many, measure
from .layers import LayerShape
from .model_layers import layer_shapes
from .node_profile import NodeTime, node_times
from .results import Latency, Ratio
from .session import Model, Session, open_session
from .table import LatencyTable, useful_widths

__all__ = [
    "Comparator",
    "Device",
    "Explanation",
    "Latency",
    "LatencyTable",
    "LayerShape",
    "LayerTime",
    "Model",
    "NodeTime",
    "Ratio",
    "Reorder",
    "Session",
    "batch_shapes",
    "compare",
    "compare_many",
    "example_inputs",
    "explain",
    "layer_shapes",
    "measure",
    "node_times",
    "open_session",
    "read_inputs",
    "usable_cores",
    "useful_widths",
]
