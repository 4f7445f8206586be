"""Resize and Upsample: any mode, one axis after the other."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Kernel, operator

_INTERPOLATE = {3: "linear", 4: "bilinear", 5: "trilinear"}
_ALIGNED = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}


@dataclass(frozen=True)
class _Method:
    """The attributes that say how positions and entries are found."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude: bool
    antialias: bool
    extrapolation: float


@dataclass(frozen=True)
class _Axis:
    """One axis that changes."""

    size: int
    wanted: int
    scale: float
    start: float = 0.0
    """Of the region, where the node has one, as a share of the axis."""
    end: float = 1.0


@operator("Upsample", host=(1,))
def upsample(node: Node) -> Kernel:
    """Output position / scale is the input position."""
    mode = node.get("mode", "nearest")
    method = _Method("linear" if mode in ("linear", "bilinear") else "nearest", "asymmetric", "floor", -0.75, *_NONE)
    known = node.get("scales", None) if node.opset < 9 else None

    def run(x: Tensor, *operands: Tensor) -> Tensor:
        scales = known if known is not None else operands[0].tolist()
        return _apply(x, {axis: _scaled(x.shape[axis], scale) for axis, scale in enumerate(scales)}, method)

    return run


_NONE = (False, False, 0.0)


def _scaled(size: int, scale: float) -> _Axis:
    return _Axis(size, math.floor(np.float32(size) * np.float32(scale)), scale)


@operator("Resize", host=(1, 2, 3))
def resize(node: Node) -> Kernel:
    """To sizes or by scales, of all axes or some. In operator set 10 as Upsample."""
    if node.opset < 11:
        return upsample(node)
    method = _Method(
        node.get("mode", "nearest"),
        node.get("coordinate_transformation_mode", "half_pixel"),
        node.get("nearest_mode", "round_prefer_floor"),
        node.get("cubic_coeff_a", -0.75),
        bool(node.get("exclude_outside", 0)),
        bool(node.get("antialias", 0)),
        node.get("extrapolation_value", 0.0),
    )
    axes, policy = node.get("axes", None), node.get("keep_aspect_ratio_policy", "stretch")
    target, region = node.operand(3), method.coordinates == "tf_crop_and_resize"
    kept = _kept_axes(node)

    def run(*inputs: Tensor | None) -> Tensor:
        x, roi, scales, _ = (*inputs, None, None, None)[:4]
        places = [axis % x.ndim for axis in axes] if axes is not None else list(range(x.ndim))
        wanted = target(inputs)
        if wanted is not None:
            found = _to_sizes([x.shape[axis] for axis in places], wanted, policy)
        else:
            found = [_scaled(x.shape[axis], scale) for axis, scale in zip(places, scales.tolist(), strict=True)]
        if region:
            bounds, half = roi.tolist(), len(places)
            found = [
                _Axis(a.size, a.wanted, a.scale, bounds[place], bounds[half + place]) for place, a in enumerate(found)
            ]
        return _apply(x, {axis: a for axis, a in zip(places, found, strict=True) if axis not in kept}, method)

    return run


def _kept_axes(node: Node) -> frozenset[int]:
    """Axes whose wanted size is the input's own, fixed one: they stay, whatever batch the module is given."""
    sizes, shape = node.constant(3), node.shape(0)
    if sizes is None or shape is None or len(sizes) != len(shape) or node.get("axes", None) is not None:
        return frozenset()
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return frozenset()
    return frozenset(axis for axis, (a, b) in enumerate(zip(sizes.tolist(), shape, strict=True)) if a == b)


def _to_sizes(sizes: Sequence[int], wanted: Sequence[int], policy: str) -> list[_Axis]:
    scales = [new / old for new, old in zip(wanted, sizes, strict=True)]
    if policy != "stretch":
        scale = min(scales) if policy == "not_larger" else max(scales)
        return [_Axis(size, math.floor(scale * size + 0.5), scale) for size in sizes]
    return [_Axis(old, new, scale) for old, new, scale in zip(sizes, wanted, scales, strict=True)]


def _apply(x: Tensor, axes: dict[int, _Axis], method: _Method) -> Tensor:
    region = method.coordinates == "tf_crop_and_resize"
    # A scale that leaves the size as it is (2.0 to 2.4 of one entry) still moves positions.
    axes = {a: axis for a, axis in axes.items() if axis.wanted != axis.size or axis.scale != 1 or region}
    if not axes:
        return x
    kind = x.dtype
    if method.mode != "nearest" and not x.is_floating_point():
        x = x.float()
    fast = _by_torch(x, axes, method)
    if fast is not None:
        return fast.to(kind)
    for place, axis in axes.items():
        if method.mode == "nearest":
            x = x.index_select(place, torch.from_numpy(_nearest(axis, method)).to(x.device))
        else:
            matrix = torch.from_numpy(_matrix(axis, method)).to(x)
            x = torch.matmul(x.movedim(place, -1), matrix.t()).movedim(-1, place)
        outside = _outside(axis, method) if region else None
        if outside is not None and outside.any():
            shape = [1] * x.ndim
            shape[place] = -1
            mask = torch.from_numpy(outside).to(x.device).reshape(shape)
            x = torch.where(mask, torch.full_like(x, method.extrapolation), x)
    return x.to(kind)


def _by_torch(x: Tensor, axes: dict[int, _Axis], method: _Method) -> Tensor | None:
    """The same by torch's own interpolation, or None where it computes something else."""
    if x.ndim not in _INTERPOLATE or min(axes) < 2 or not x.is_floating_point():
        return None
    sizes = [axes[a].wanted if a in axes else x.shape[a] for a in range(2, x.ndim)]
    if method.mode == "nearest":
        same = all(np.array_equal(_nearest(a, method), np.arange(a.wanted) * a.size // a.wanted) for a in axes.values())
        plain = same and method.coordinates != "tf_crop_and_resize"
        return functional.interpolate(x, sizes, mode="nearest") if plain else None
    aligned = _ALIGNED.get(method.coordinates)
    exact = all(abs(a.scale * a.size - a.wanted) < 1e-4 and a.wanted > 1 for a in axes.values())
    if aligned is None or not exact or method.antialias:
        return None
    if method.mode == "linear":
        return functional.interpolate(x, sizes, mode=_INTERPOLATE[x.ndim], align_corners=aligned)
    if method.mode == "cubic" and x.ndim == 4 and method.cubic == -0.75 and not method.exclude:
        return functional.interpolate(x, sizes, mode="bicubic", align_corners=aligned)
    return None


def _positions(axis: _Axis, method: _Method) -> np.ndarray:
    """Where each output entry lies on the input axis; float32, as onnxruntime has it."""
    out, scale = np.arange(axis.wanted, dtype=np.float32), np.float32(axis.scale)
    half, last = np.float32(0.5), np.float32(axis.size - 1)
    match method.coordinates:
        case "half_pixel":
            return (out + half) / scale - half
        case "pytorch_half_pixel":
            return (out + half) / scale - half if axis.wanted > 1 else np.zeros_like(out)
        case "half_pixel_symmetric":
            adjustment = np.float32(axis.wanted) / (scale * np.float32(axis.size))
            offset = np.float32(axis.size) * half * (1 - adjustment)
            return offset + (out + half) / scale - half
        case "asymmetric":
            return out / scale
        case "tf_half_pixel_for_nn":
            return (out + half) / scale
        case "align_corners":
            return out * last / np.float32(axis.wanted - 1) if axis.wanted > 1 else np.zeros_like(out)
    start, end = np.float32(axis.start), np.float32(axis.end)
    if axis.wanted > 1:
        return start * last + out * (end - start) * last / np.float32(axis.wanted - 1)
    return np.full_like(out, half * (start + end) * last)


def _outside(axis: _Axis, method: _Method) -> np.ndarray:
    positions = _positions(axis, method)
    return (positions < 0) | (positions > axis.size - 1)


@functools.lru_cache(maxsize=256)
def _nearest(axis: _Axis, method: _Method) -> np.ndarray:
    positions = _positions(axis, method)
    match method.nearest:
        case "round_prefer_floor":
            places = np.ceil(positions - np.float32(0.5))
        case "round_prefer_ceil":
            places = np.floor(positions + np.float32(0.5))
        case "floor":
            places = np.floor(positions)
        case _:
            places = np.ceil(positions)
    return np.clip(places, 0, axis.size - 1).astype(np.int64)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@functools.lru_cache(maxsize=256)
def _matrix(axis: _Axis, method: _Method) -> np.ndarray:
    """(outputs, inputs): what each output takes of each input."""
    positions = _positions(axis, method).astype(np.float64)
    shrink = min(axis.scale, 1.0) if method.antialias else 1.0
    reach = 1 if method.mode == "linear" else 2
    first = math.floor(-reach / shrink) + 1
    taps = np.floor(positions).astype(np.int64)[:, None] + np.arange(first, 2 - first)
    distance = (taps - positions[:, None]) * shrink
    weights = np.clip(1 - np.abs(distance), 0, 1) if reach == 1 else _cubic(distance, method.cubic)
    if method.exclude:
        weights = np.where((taps >= 0) & (taps < axis.size), weights, 0.0)
    weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((axis.wanted, axis.size))
    rows = np.broadcast_to(np.arange(axis.wanted)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, axis.size - 1)), weights)
    return matrix
