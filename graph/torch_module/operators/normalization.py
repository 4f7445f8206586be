"""Normalization, and Softmax."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Context, Kernel, operator

_SOFT: dict[str, Callable[[Tensor, int], Tensor]] = {
    "Softmax": torch.softmax,
    "LogSoftmax": torch.log_softmax,
    "Hardmax": lambda x, axis: functional.one_hot(x.argmax(axis), x.shape[axis]).to(x.dtype).movedim(-1, axis),
}


@operator("BatchNormalization", context=True)
def batch_normalization(node: Node) -> Kernel:
    """By the stored mean and variance; in training by those of the batch, which then also move the stored ones.

    ONNX's momentum is the share of the old value, torch's that of the new one. A node that says `training_mode` always
    takes the batch's.
    """
    eps, momentum, always = node.get("epsilon", 1e-5), 1 - node.get("momentum", 0.9), node.get("training_mode", 0)
    if node.opset < 9 and not node.get("spatial", 1):
        node.refuse("normalizes every position by itself (spatial=0)")
    if always:
        return lambda context, *inputs: _training_mode(eps, momentum, *inputs)

    def run(context: Context, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, variance, scale, bias, context.training, momentum, eps)

    if not all(name in node.facts.kept for name in node.proto.input[3:5]):  # only what the module keeps can move
        return lambda context, x, scale, bias, mean, variance: functional.batch_norm(
            x, mean, variance, scale, bias, False, 0.0, eps
        )
    return run


def _training_mode(
    eps: float, momentum: float, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    axes = (0, *range(2, x.ndim))
    out = functional.batch_norm(x, None, None, scale, bias, True, 0.0, eps)
    now = x.mean(axes), x.var(axes, correction=0)
    moved = [old * (1 - momentum) + new * momentum for old, new in zip((mean, variance), now, strict=True)]
    return out, moved[0], moved[1]


@operator("InstanceNormalization")
def instance_normalization(node: Node) -> Kernel:
    """Every channel over space."""
    eps = node.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return functional.group_norm(x, x.shape[1], scale, bias, eps)

    return run


@operator("GroupNormalization")
def group_normalization(node: Node) -> Kernel:
    """Scale and bias are per group before operator set 21, then per channel."""
    eps, groups, each = node.get("epsilon", 1e-5), node.get("num_groups"), node.opset < 21

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if each:
            repeats = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
        return functional.group_norm(x, groups, scale, bias, eps)

    return run


@operator("LayerNormalization")
def layer_normalization(node: Node) -> Kernel:
    """Over the last axes; mean and inverse deviation too, where they are wanted."""
    axis, eps, more = node.get("axis", -1), node.get("epsilon", 1e-5), node.wants(1) or node.wants(2)

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        sizes = x.shape[axis % x.ndim :]
        if scale.shape == sizes and (bias is None or bias.shape == sizes):
            out = functional.layer_norm(x, sizes, scale, bias, eps)
        else:
            out = functional.layer_norm(x, sizes, None, None, eps) * scale
            out = out if bias is None else out + bias
        if not more:
            return out
        axes = tuple(range(axis % x.ndim, x.ndim))
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
        return out, mean, torch.rsqrt(variance + eps)

    return run


@operator("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(node: Node) -> Kernel:
    """By the root mean square over the last axes."""
    axis, eps = node.get("axis", -1), node.get("epsilon", 1e-5)
    return lambda x, scale: functional.rms_norm(x, x.shape[axis % x.ndim :], None, eps) * scale


@operator("LRN")
def local_response(node: Node) -> Kernel:
    """By the squares of neighbouring channels; an even number of them reaches one further up than down."""
    size, alpha, beta = node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75)
    bias = node.get("bias", 1.0)

    def run(x: Tensor) -> Tensor:
        around = [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size // 2]
        squares = functional.pad(x.square(), around)
        total = sum(squares.narrow(1, place, x.shape[1]) for place in range(size))
        return x / (bias + alpha / size * total) ** beta

    return run


@operator("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: Node) -> Kernel:
    """One axis since operator set 13, all axes from `axis` on before it."""
    function = _SOFT[node.operator]
    if node.opset >= 13:
        axis = node.get("axis", -1)
        return lambda x: function(x, axis % x.ndim)
    first = node.get("axis", 1)
    return lambda x: function(x.flatten(first % x.ndim), first % x.ndim).reshape(x.shape)


@operator("LpNormalization")
def lp_normalization(node: Node) -> Kernel:
    """By the length along an axis; what has none stays 0."""
    axis, power = node.get("axis", -1), node.get("p", 2)

    def run(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, power, axis, keepdim=True)
        return x / torch.where(length == 0, torch.ones_like(length), length)

    return run


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Kernel:
    """To mean 0 and deviation 1 over some axes."""
    axes = node.get("axes", [0, 2, 3])

    def run(x: Tensor) -> Tensor:
        mean = x.mean(axes, keepdim=True)
        return (x - mean) / (x.var(axes, correction=0, keepdim=True).sqrt() + 1e-9)

    return run
