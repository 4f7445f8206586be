"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Kernel, operator


@operator("Gemm")
def gemm(node: Node) -> Kernel:
    """alpha A' B' + beta C."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    trans_a, trans_b = node.get("transA", 0), node.get("transB", 0)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        left, columns = a.t() if trans_a else a, b if trans_b else b.t()
        if alpha == 1 and (c is None or (beta == 1 and c.ndim == 1 and c.shape[0] == columns.shape[0])):
            return functional.linear(left, columns, c)
        product = functional.linear(left, columns)
        product = product if alpha == 1 else alpha * product
        return product if c is None else product + (c if beta == 1 else beta * c)

    return run if node.type(0) not in (6, 7, 12, 13) else lambda a, b, c=None: _whole(run, a, b, c)


def _whole(run: Kernel, a: Tensor, b: Tensor, c: Tensor | None) -> Tensor:
    """Integers: exact in float64 up to 2**53."""
    return run(a.double(), b.double(), None if c is None else c.double()).to(a.dtype)


@operator("MatMul")
def matmul(node: Node) -> Kernel:
    """As numpy does."""
    return torch.matmul


@operator("Einsum")
def einsum(node: Node) -> Kernel:
    """torch reads the same equations."""
    equation = node.get("equation").replace(" ", "")
    return lambda *operands: torch.einsum(equation, *operands)


@operator("Det")
def determinant(node: Node) -> Kernel:
    """Of the last two axes."""
    return torch.linalg.det
