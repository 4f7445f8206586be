"""What the layers of a model have to do with its groups of channels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from ...graph import ChannelAnalysis, ChannelGroup, Frozen, Role, Slot, node_macs

__all__ = ["Layer", "Member", "group_members", "layers"]


@dataclass(frozen=True)
class Member:
    """One layer of a group, in one role. A layer in a residual stream both reads and makes its channels."""

    layer: str
    op: str
    role: Role
    shape: tuple[int, ...]
    """Of the weight that the group's channels are in; not of the bias or the like beside it."""
    channels: int
    """How many of the weight's channels belong to the group."""
    of: int
    """How many channels the weight has along that axis."""

    @property
    def share(self) -> str:
        """`all 16`, `4 of 16`."""
        return f"all {self.of}" if self.channels == self.of else f"{self.channels} of {self.of}"


@dataclass(frozen=True)
class Layer:
    """A layer that takes part in a group, or that makes channels which stay."""

    name: str
    op: str
    inputs: int | None
    """Channels that it reads; None where it has no weight that says so."""
    outputs: int | None
    """Channels that it makes."""
    macs_share: float
    """Of the whole model's."""
    groups: tuple[tuple[str, Role], ...]
    """Names of the groups and its roles in them, in the order of the groups."""
    frozen: Frozen | None
    """Why channels that it makes stay, where some do."""

    @property
    def passes(self) -> bool:
        """True for what only has parameters for channels that others make, such as a BatchNormalization."""
        return not self.macs_share and self.frozen is None and all(role is Role.FOLLOWER for _, role in self.groups)


def group_members(model: onnx.ModelProto, groups: Sequence[ChannelGroup]) -> dict[str, tuple[Member, ...]]:
    """Group name -> its layers, in graph order."""
    shapes = _shapes(model)
    ops = {node.name: node.op_type for node in model.graph.node}
    return {group.name: _members(group, shapes, ops) for group in groups}


def _members(group: ChannelGroup, shapes: dict[str, tuple[int, ...]], ops: dict[str, str]) -> tuple[Member, ...]:
    slots: dict[tuple[str, Role], Slot] = {}
    for slot in group.slots:
        known = slots.setdefault((slot.node, slot.role), slot)
        if len(shapes[slot.tensor]) > len(shapes[known.tensor]):
            slots[slot.node, slot.role] = slot
    members = []
    for (node, role), slot in slots.items():
        shape = shapes[slot.tensor]
        members.append(Member(node, ops[node], role, shape, sum(map(len, slot.positions)), shape[slot.axis]))
    return tuple(members)


def layers(model: onnx.ModelProto, analysis: ChannelAnalysis) -> tuple[Layer, ...]:
    """The layers that have to do with groups or are frozen, in graph order."""
    shapes = _shapes(model)
    work = node_macs(model)
    whole = sum(work.values()) or 1
    frozen = {item.layer: item for item in analysis.frozen}
    parts: dict[str, list[tuple[str, Member]]] = defaultdict(list)
    for group, members in group_members(model, analysis.groups).items():
        for member in members:
            parts[member.layer].append((group, member))
    found = []
    for node in model.graph.node:
        if node.name not in parts and node.name not in frozen:
            continue
        own = parts[node.name]
        inputs, outputs = _channels(node, shapes) or ((own[0][1].of,) * 2 if own else (None, None))
        found.append(
            Layer(
                node.name,
                node.op_type,
                inputs,
                outputs,
                work.get(node.name, 0) / whole,
                tuple((group, member.role) for group, member in own),
                frozen.get(node.name),
            )
        )
    return tuple(found)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def _channels(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> tuple[int, int] | None:
    """Channels that a layer reads and makes, where its operator says which axes of the weight they are."""
    first, second = ([shapes.get(name, ()) for name in node.input] + [(), ()])[:2]
    number = {attribute.name: attribute.i for attribute in node.attribute}
    match node.op_type:
        case "Conv" if len(second) > 1:
            return second[1] * number.get("group", 1), second[0]
        case "ConvTranspose" if len(second) > 1:
            return second[0], second[1] * number.get("group", 1)
        case "Gemm" if len(second) == 2:
            return (second[1], second[0]) if number.get("transB", 0) else (second[0], second[1])
        case "MatMul" if len(second) > 1:
            return second[-2], second[-1]
        case "MatMul" if len(first) > 1:
            return first[-1], first[-2]
    return None
