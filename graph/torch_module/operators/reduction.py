"""Reductions, order and sums along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..node import Node
from ..registry import Kernel, operator

Reduce = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _extreme(function: Callable[..., Tensor], nothing: float) -> Reduce:
    def run(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
        if x.numel():
            return function(x, axes, keep)
        limit = nothing
        if not x.is_floating_point() and x.dtype != torch.bool:
            limit = torch.iinfo(x.dtype).min if nothing < 0 else torch.iinfo(x.dtype).max
        return x.sum(axes, keep).to(x.dtype).fill_(nothing > 0 if x.dtype == torch.bool else limit)

    return run


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keep).to(x.dtype)
    return x


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.mean(axes, keep) if x.is_floating_point() else x.double().mean(axes, keep).to(x.dtype)


def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keep) if x.numel() else x.sum(axes, keep).log()


_REDUCTIONS: dict[str, Reduce] = {
    "ReduceMean": _mean,
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep).to(x.dtype),
    "ReduceMax": _extreme(torch.amax, -math.inf),
    "ReduceMin": _extreme(torch.amin, math.inf),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep).to(x.dtype),
    "ReduceL2": lambda x, axes, keep: (
        torch.linalg.vector_norm(x, 2, axes, keep)
        if x.is_floating_point()
        else x.double().square().sum(axes, keep).sqrt().to(x.dtype)
    ),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep).to(x.dtype),
}


@operator(*_REDUCTIONS, host=(1,))
def reduce(node: Node) -> Kernel:
    """Without axes: all, or with `noop_with_empty_axes` none (squares and logarithms still apply)."""
    function, keep = _REDUCTIONS[node.operator], bool(node.get("keepdims", 1))
    axes, none = node.operand(1, "axes"), bool(node.get("noop_with_empty_axes", 0))

    def run(x: Tensor, *operands: Tensor | None) -> Tensor:
        wanted = axes((x, *operands))
        if wanted:
            return function(x, tuple(axis % x.ndim for axis in wanted), keep)
        if none:
            return function(x.unsqueeze(0), (0,), False)
        return function(x, tuple(range(x.ndim)), keep) if x.ndim else function(x.reshape(1), (0,), False)

    return run


@operator("ArgMax", "ArgMin")
def argument(node: Node) -> Kernel:
    """Where the extreme is; the first of several equal ones, or the last."""
    function = torch.argmax if node.operator == "ArgMax" else torch.argmin
    axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
    if not node.get("select_last_index", 0):
        return lambda x: function(x, axis, keepdim=keep)
    return lambda x: x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)


@operator("TopK", host=(1,))
def top_k(node: Node) -> Kernel:
    """Equal entries in the order of their places."""
    axis, largest, count = node.get("axis", -1), bool(node.get("largest", 1)), node.operand(1, "k")

    def run(x: Tensor, *operands: Tensor) -> tuple[Tensor, Tensor]:
        (wanted,) = count((x, *operands))
        values, places = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, wanted), places.narrow(axis, 0, wanted)

    return run


@operator("CumSum", "CumProd", host=(1,))
def cumulative(node: Node) -> Kernel:
    """From either end, with or without the entry itself."""
    exclusive, reverse, place = node.get("exclusive", 0), node.get("reverse", 0), node.operand(1)
    function, start = (torch.cumsum, 0) if node.operator == "CumSum" else (torch.cumprod, 1)

    def run(x: Tensor, axes: Tensor) -> Tensor:
        (axis,) = place((x, axes))
        out = x.flip(axis) if reverse else x
        if exclusive:
            first = torch.full_like(out.narrow(axis, 0, 1), start)
            out = torch.cat([first, out.narrow(axis, 0, x.shape[axis] - 1)], axis)
        out = function(out, axis).to(x.dtype)
        return out.flip(axis) if reverse else out

    return run
