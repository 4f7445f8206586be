"""Operators that work position by position."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Context, Kernel, operator

_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "Ceil": torch.ceil,
    "Floor": torch.floor,
    "Round": torch.round,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Sign": torch.sign,
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Log": torch.log,
    "Erf": torch.erf,
    "IsNaN": torch.isnan,
    "Not": torch.logical_not,
    "BitwiseNot": torch.bitwise_not,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Mish": functional.mish,
    "HardSwish": functional.hardswish,
    "Identity": lambda x: x,
}
_ALPHA: dict[str, tuple[float, Callable[[Tensor, float], Tensor]]] = {
    "Celu": (1.0, functional.celu),
    "Elu": (1.0, functional.elu),
    "LeakyRelu": (0.01, functional.leaky_relu),
    "ThresholdedRelu": (1.0, lambda x, alpha: functional.threshold(x, alpha, 0.0)),
    "Swish": (1.0, lambda x, alpha: functional.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)),
}
"""Operator -> default of its attribute `alpha`, and what it does."""


@operator(*_PLAIN)
def plain(node: Node) -> Kernel:
    """One torch function without attributes."""
    return _PLAIN[node.operator]


@operator(*_ALPHA)
def with_alpha(node: Node) -> Kernel:
    """One torch function of `alpha`."""
    default, function = _ALPHA[node.operator]
    alpha = node.get("alpha", default)
    return lambda x: function(x, alpha)


@operator("Gelu")
def gelu(node: Node) -> Kernel:
    """Exact, or by a tanh."""
    approximate = node.get("approximate", "none")
    return lambda x: functional.gelu(x, approximate=approximate)


@operator("HardSigmoid")
def hard_sigmoid(node: Node) -> Kernel:
    """max(0, min(1, alpha x + beta))."""
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return functional.hardsigmoid
    return lambda x: functional.hardtanh(alpha * x + beta, 0, 1)


@operator("Selu")
def selu(node: Node) -> Kernel:
    """gamma (x or alpha (exp x - 1))."""
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return lambda x: gamma * functional.elu(x, alpha)


@operator("Shrink")
def shrink(node: Node) -> Kernel:
    """0 within `lambd` of 0, outside it `bias` nearer to 0."""
    bias, bound = node.get("bias", 0.0), node.get("lambd", 0.5)

    def run(x: Tensor) -> Tensor:
        outside = torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, torch.zeros_like(x)))
        return outside.to(x.dtype)

    return run


@operator("IsInf")
def is_inf(node: Node) -> Kernel:
    """Infinities of either sign, or of one."""
    negative, positive = node.get("detect_negative", 1), node.get("detect_positive", 1)
    if negative and positive:
        return torch.isinf
    if negative:
        return torch.isneginf
    return torch.isposinf if positive else lambda x: torch.zeros_like(x, dtype=torch.bool)


@operator("Cast")
def cast(node: Node) -> Kernel:
    """To the type of the attribute `to`."""
    dtype = node.dtype(node.get("to"))
    return lambda x: x.to(dtype)


@operator("CastLike")
def cast_like(node: Node) -> Kernel:
    """To the type of the second input."""
    return lambda x, like: x.to(like.dtype)


def _clipping(low: float | None, high: float | None) -> Kernel:
    """To known bounds.

    `hardtanh` gives the same numbers, and its gradient in one pass: that of `clamp` is several of comparison and
    selection, which took two fifths of a training step of MobileNetV2.
    """
    if low is None and high is None:
        return lambda x: x
    if low is None or high is None or not low < high:
        return lambda x: torch.clamp(x, low, high)
    return lambda x: functional.hardtanh(x, low, high) if x.is_floating_point() else torch.clamp(x, low, high)


@operator("Clip")
def clip(node: Node) -> Kernel:
    """Bounds are attributes before operator set 11, then inputs."""
    if node.opset < 11:
        return _clipping(node.get("min", None), node.get("max", None))
    if all(node.constant(place) is not None for place in (1, 2) if node.has(place)):
        clipped = _clipping(node.number(1), node.number(2))
        return lambda x, *bounds: clipped(x)

    def run(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        return x if low is None and high is None else torch.clamp(x, low, high)

    return run


@operator("Dropout", host=(1, 2), context=True)
def dropout(node: Node) -> Kernel:
    """The identity, unless the module trains and is told to drop."""
    ratio = node.get("ratio", node.number(1))
    ratio = 0.5 if ratio is None else ratio

    def run(context: Context, x: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor] | Tensor:
        if not context.dropout:
            return (x, torch.ones_like(x, dtype=torch.bool)) if node.wants(1) else x
        mask = torch.rand_like(x) >= ratio
        return x * mask / (1 - ratio), mask

    return run


def _divide(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point():
        return torch.div(a, b)
    return torch.div(a, b, rounding_mode="trunc")


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": _divide,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}


@operator(*_BINARY)
def binary(node: Node) -> Kernel:
    """Two operands that broadcast; integers are divided towards zero."""
    return _BINARY[node.operator]


@operator("Pow")
def power(node: Node) -> Kernel:
    """The result has the base's type."""
    exponent = node.number(1)
    if exponent is not None and node.constant(1).ndim == 0:
        return lambda x, y: torch.pow(x, exponent).to(x.dtype)
    return lambda x, y: torch.pow(x, y).to(x.dtype)


@operator("Mod")
def modulo(node: Node) -> Kernel:
    """The sign of the divisor, or with `fmod` that of the dividend."""
    return torch.fmod if node.get("fmod", 0) else torch.remainder


@operator("BitShift")
def bit_shift(node: Node) -> Kernel:
    """Unsigned numbers: what leaves the type on the left is lost."""
    left = node.get("direction") == "LEFT"
    kind = node.type(0)
    # Types that are represented by wider ones have to lose the bits that the wider one keeps.
    mask = {4: 2**16 - 1, 12: 2**32 - 1}.get(kind)

    def run(x: Tensor, y: Tensor) -> Tensor:
        if not left:
            return torch.bitwise_right_shift(x, y)
        shifted = torch.bitwise_left_shift(x, y)
        return shifted if mask is None else torch.bitwise_and(shifted, mask)

    return run


_VARIADIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
    "Mean": torch.add,
}


@operator(*_VARIADIC)
def variadic(node: Node) -> Kernel:
    """Any number of operands that broadcast."""
    function, mean = _VARIADIC[node.operator], node.operator == "Mean"

    def run(*values: Tensor) -> Tensor:
        total = functools.reduce(function, values)
        return total / len(values) if mean else total

    return run


@operator("PRelu")
def prelu(node: Node) -> Kernel:
    """The slope broadcasts to the input from the right."""

    def run(x: Tensor, slope: Tensor) -> Tensor:
        per_channel = x.ndim > 1 and slope.ndim >= x.ndim - 1 and slope.numel() == x.shape[1]
        if slope.numel() == 1 or (per_channel and slope.shape[1 - x.ndim] == slope.numel()):
            return functional.prelu(x, slope.reshape(-1)) if x.is_floating_point() else torch.where(x < 0, slope * x, x)
        return torch.where(x < 0, slope * x, x)

    return run


@operator("Where")
def where(node: Node) -> Kernel:
    """Condition, then, else; all broadcast."""
    return torch.where
