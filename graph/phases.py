"""Strength reduction of a convolution over the phases of an image.

A net may begin with taking an image apart into the s x s images of every s-th row and column, stacked as channels (the
Focus of YOLOv5 and YOLOX; SpaceToDepth). The convolution that reads these is one over the image itself, s times as
large and s times as far apart: as many multiplications, without the copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from .protos import Shape, attribute

__all__ = ["Known", "Strided", "over_phases"]

_MOST = 2**31 - 1  # exporters write "to the end" as this or more


@dataclass(frozen=True)
class Strided:
    """A convolution of an image, in place of one of its phases."""

    image: str
    weight: np.ndarray
    """Output channels x channels of the image x s k x s k."""
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """What is known of a model's tensors, by name."""

    makers: Mapping[str, onnx.NodeProto]
    weights: Mapping[str, onnx.TensorProto]
    shapes: Mapping[str, Shape]

    def array(self, name: str) -> np.ndarray | None:
        """Values of a constant."""
        return numpy_helper.to_array(self.weights[name]) if name in self.weights else None


@dataclass(frozen=True)
class _Phase:
    """Every s-th row and column of an image, from one on; s may differ by axis."""

    image: str
    start: tuple[int, int]
    step: tuple[int, int]


def over_phases(conv: onnx.NodeProto, known: Known) -> Strided | None:
    """The convolution over the image, where `conv` reads all phases of one; None where it does not."""
    padding, dilations = attribute(conv, "auto_pad", b"NOTSET"), attribute(conv, "dilations", [1, 1])
    if padding not in (b"NOTSET", b"VALID") or attribute(conv, "group", 1) != 1 or set(dilations) != {1}:
        return None
    weight, phases = known.array(conv.input[1]), _phases(conv.input[0], known)
    if weight is None or weight.ndim != 4 or not phases or weight.shape[1] % len(phases):
        return None
    step, channels = phases[0].step, weight.shape[1] // len(phases)
    wide = np.zeros(
        (len(weight), channels, *(s * k for s, k in zip(step, weight.shape[2:], strict=True))), weight.dtype
    )
    for place, phase in enumerate(phases):
        (top, left), (down, right) = phase.start, step
        wide[:, :, top::down, left::right] = weight[:, place * channels : (place + 1) * channels]
    strides, pads = attribute(conv, "strides", [1, 1]), attribute(conv, "pads", [0] * 4)
    attributes = {
        "kernel_shape": wide.shape[2:],
        "strides": [s * t for s, t in zip(step, strides, strict=True)],
        "pads": [s * p for s, p in zip(step * 2, pads, strict=True)],
    }
    return Strided(phases[0].image, wide, attributes)


def _phases(name: str, known: Known) -> list[_Phase]:
    """The phases that were stacked to this tensor, in their order; empty where they are not all of one image."""
    node = known.makers.get(name)
    if node is None:
        return []
    if node.op_type == "SpaceToDepth":
        size = int(attribute(node, "blocksize", 1))
        return [_Phase(node.input[0], divmod(place, size), (size, size)) for place in range(size * size)]
    if node.op_type != "Concat" or attribute(node, "axis") not in (1, -3):
        return []
    found = [_phase(piece, known) for piece in node.input]
    first = found[0]
    if first.step == (1, 1) or {(one.image, one.step) for one in found} != {(first.image, first.step)}:
        return []
    every = {(top, left) for top in range(first.step[0]) for left in range(first.step[1])}
    return found if len(found) == len(every) and {one.start for one in found} == every else []


def _phase(name: str, known: Known) -> _Phase:
    """What of which image a tensor is: itself, or what is left of another by slices."""
    start, step = [0, 0], [1, 1]
    while (node := known.makers.get(name)) is not None and node.op_type == "Slice":
        taken = _slice(node, known)
        if taken is None:
            break
        for axis, (first, every) in taken.items():
            # Of every m-th from a on, every n-th from b on: every (m n)-th from a + m b on.
            start[axis] = first + start[axis] * every
            step[axis] *= every
        name = node.input[0]
    return _Phase(name, (start[0], start[1]), (step[0], step[1]))


def _slice(node: onnx.NodeProto, known: Known) -> dict[int, tuple[int, int]] | None:
    """Start and step of a Slice to the end of rows or columns, by axis (0 or 1); None for any other."""
    operands = [known.array(name) for name in node.input[1:]]
    if len(operands) < 4 or any(operand is None for operand in operands):
        return None
    sizes = known.shapes.get(node.input[0], ())
    if len(sizes) != 4:
        return None
    taken = {}
    for start, end, axis, step in zip(*(operand.tolist() for operand in operands), strict=True):
        size, place = sizes[axis], axis % 4 - 2
        whole = end >= (size if isinstance(size, int) else _MOST)
        if place < 0 or start < 0 or step < 1 or not whole:
            return None
        taken[place] = (start, step)
    return taken
