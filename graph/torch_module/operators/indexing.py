"""Reading and writing at computed places."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..node import Node
from ..registry import Kernel, operator

_SCATTER = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _wrap(indices: Tensor, size: int) -> Tensor:
    """Negative positions count from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@operator("Gather")
def gather(node: Node) -> Kernel:
    """Slices of the data along an axis."""
    axis, known = node.get("axis", 0), node.constant(1)
    if known is not None and known.ndim == 0:
        place = int(known)
        return lambda x, indices: x.select(axis, place)
    plain = known is not None and bool(np.all(known >= 0))

    def run(x: Tensor, indices: Tensor) -> Tensor:
        places = indices.long() if plain else _wrap(indices, x.shape[axis])
        picked = x.index_select(axis, places.reshape(-1))
        return (
            picked
            if places.ndim == 1
            else picked.unflatten(axis, places.shape)
            if places.ndim
            else picked.squeeze(axis)
        )

    return run


@operator("GatherElements")
def gather_elements(node: Node) -> Kernel:
    """One place for each output entry."""
    axis = node.get("axis", 0)
    return lambda x, indices: torch.gather(x, axis, _wrap(indices, x.shape[axis]))


def _flat_places(shape: torch.Size, indices: Tensor) -> Tensor:
    """Index vectors (..., k) into axes of `shape` -> positions in these k axes laid flat."""
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=indices.device)
    for axis in range(indices.shape[-1]):
        flat = flat * shape[axis] + _wrap(indices[..., axis], shape[axis])
    return flat


@operator("GatherND")
def gather_nd(node: Node) -> Kernel:
    """Slices at index vectors."""
    batched = node.get("batch_dims", 0)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        depth, batch = indices.shape[-1], x.shape[:batched]
        rest = x.shape[batched + depth :]
        flat = x.reshape(math.prod(batch), -1, *rest)
        places = _flat_places(x.shape[batched:], indices).reshape(flat.shape[0], -1)
        rows = torch.arange(flat.shape[0], device=x.device).reshape(-1, 1)
        return flat[rows, places].reshape(*indices.shape[:-1], *rest)

    return run


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Kernel:
    """One place for each update."""
    axis, reduction = node.get("axis", 0), node.get("reduction", "none")

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        places, updates = _wrap(indices, x.shape[axis]), updates.to(x.dtype)
        if reduction == "none":
            return torch.scatter(x, axis, places, updates)
        return torch.scatter_reduce(x, axis, places, updates, _SCATTER[reduction])

    return run


@operator("ScatterND")
def scatter_nd(node: Node) -> Kernel:
    """Slices at index vectors are replaced, or combined with the updates."""
    reduction = node.get("reduction", "none")

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        rest = x.shape[depth:]
        flat = x.reshape(math.prod(x.shape[:depth]), *rest)
        places = _flat_places(x.shape, indices).reshape(-1)
        updates = updates.to(x.dtype).reshape(len(places), *rest)
        if reduction == "none":
            out = flat.index_copy(0, places, updates)
        else:
            out = (
                flat.index_reduce(0, places, updates, _SCATTER[reduction])
                if reduction != "add"
                else (flat.index_add(0, places, updates))
            )
        return out.reshape(x.shape)

    return run


@operator("OneHot", host=(1,))
def one_hot(node: Node) -> Kernel:
    """`on` at the index, `off` elsewhere along a new axis."""
    axis, depth = node.get("axis", -1), node.operand(1)

    def run(indices: Tensor, size: Tensor, values: Tensor) -> Tensor:
        (count,) = depth((indices, size))
        places = torch.where(indices < 0, indices + count, indices)
        place = axis % (indices.ndim + 1)
        steps = torch.arange(count, device=indices.device).reshape(-1, *(1,) * (indices.ndim - place))
        return torch.where(places.unsqueeze(place) == steps, values[1], values[0])

    return run


@operator("NonZero")
def non_zero(node: Node) -> Kernel:
    """Places (axes, count) of entries that are not 0."""
    return lambda x: torch.nonzero(x.reshape(1) if x.ndim == 0 else x).t()[: x.ndim]


@operator("Compress")
def compress(node: Node) -> Kernel:
    """Slices where the condition holds."""
    axis = node.get("axis", None)

    def run(x: Tensor, condition: Tensor) -> Tensor:
        places = torch.nonzero(condition).reshape(-1)
        return x.reshape(-1)[places] if axis is None else x.index_select(axis, places)

    return run


@operator("Unique")
def unique(node: Node) -> Kernel:
    """Distinct entries or slices in ascending order, where each first is, which each is, and how many."""
    axis, ascending = node.get("axis", None), node.get("sorted", 1)
    if not ascending:
        node.refuse("keeps the order of first appearance (sorted=0)")

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=axis)
        inverse = inverse.reshape(-1)
        last = torch.full_like(counts, inverse.numel())
        places = torch.arange(inverse.numel(), device=x.device)
        return values, last.scatter_reduce(0, inverse, places, "amin"), inverse, counts

    return run
