"""What onnxruntime made of a graph: the kernels that it runs, and in which layout its convolutions run.

On x86 and arm64 a Conv of the CPU provider is quickest in a blocked layout (NCHWc), and what is not stays in the plain
one, with a reordering at each border. The rules below were found by experiment and are tested that way
(`tests/runtime/test_kernels.py`), on onnxruntime 1.31 with blocks of 16 channels. A Conv runs blocked where

1. the graph is optimised with level `all`: changing layouts is the last step;
2. it has two spatial axes;
3. weight and bias are constants (an initializer that is an input of the graph, too, is none);
4. it has one group and reads a multiple of four channels, or fewer than a block: then it reads the plain layout;
5. or it is depthwise, each output with an input of its own, and their number a multiple of four;
6. or it has several groups, each of which reads and makes whole blocks.

How many channels it makes does not matter. Strides, dilations, auto_pad and the activation behind it do not either, and
float16 is computed as float32 between two Casts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from .device import Device

__all__ = ["BLOCKED", "PLAIN", "Kernel", "kernels_of"]

BLOCKED = "blocked"
PLAIN = "plain"
_REORDERS = ("ReorderInput", "ReorderOutput")
_BLOCKED_DOMAIN = "com.microsoft.nchwc"
_CONVOLUTIONS = ("Conv", "FusedConv")
_ALIGNMENT = 4


@dataclass(frozen=True)
class Kernel:
    """One node of the graph that onnxruntime runs."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layout: str = ""
    """`blocked` or `plain` of a convolution, else empty."""
    reason: str = ""
    """Why a convolution runs in the plain layout."""

    @property
    def is_reorder(self) -> bool:
        """Whether it does nothing but change the layout."""
        return self.op in _REORDERS


def kernels_of(optimized: onnx.ModelProto, device: Device) -> tuple[Kernel, ...]:
    """The kernels of an optimised graph, in its order."""
    given = {value.name for value in optimized.graph.input}
    constants = {tensor.name: tensor for tensor in optimized.graph.initializer if tensor.name not in given}
    return tuple(_kernel(node, constants, device) for node in optimized.graph.node)


def _kernel(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], device: Device) -> Kernel:
    layout, reason = "", ""
    if node.op_type in _CONVOLUTIONS:
        layout = BLOCKED if node.domain == _BLOCKED_DOMAIN else PLAIN
        if layout == PLAIN:
            weight = constants.get(node.input[1])
            dims = None if weight is None else tuple(weight.dims)
            reason = _plain_because(node, dims, constants, device)
    return Kernel(node.name, node.op_type, node.domain, tuple(node.input), tuple(node.output), layout, reason)


def _plain_because(
    node: onnx.NodeProto, weight: Sequence[int] | None, constants: Collection[str], device: Device
) -> str:
    """The first rule of this file that keeps a convolution from running blocked; empty where none does."""
    if device.name != "cpu":
        return "only the CPU provider has a blocked layout"
    if device.optimization != "all":
        return f"opt={device.optimization}: layouts change with opt=all only"
    if weight is None:
        return "its weight is not a constant"
    if len(weight) != 4:
        return f"it has {len(weight) - 2} spatial ax{'is' if len(weight) == 3 else 'es'}, not two"
    if len(node.input) > 2 and node.input[2] and node.input[2] not in constants:
        return "its bias is not a constant"
    groups = next((helper.get_attribute_value(item) for item in node.attribute if item.name == "group"), 1)
    makes, reads = weight[0], weight[1]
    if groups == 1:
        return f"reads {reads} channels, not a multiple of {_ALIGNMENT}" if reads % _ALIGNMENT else ""
    if reads == 1 and makes == groups:
        return f"depthwise with {groups} channels, not a multiple of {_ALIGNMENT}" if groups % _ALIGNMENT else ""
    return (
        f"{groups} groups, each with {reads} channels in and {makes // groups} out: "
        "a group has to read and make whole blocks (8 or 16 channels, by processor)"
    )
