"""Tensors made from numbers and shapes."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor

from ..node import Node
from ..registry import Kernel, operator
from ..values import as_tensor, numbers, torch_type


@operator("Shape")
def shape(node: Node) -> Kernel:
    """Sizes of some axes."""
    start, end = node.get("start", 0), node.get("end", None)
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


@operator("Size")
def size(node: Node) -> Kernel:
    """How many entries."""
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64)


@operator("ConstantOfShape", host=(0,))
def constant_of_shape(node: Node) -> Kernel:
    """One number everywhere, float 0 unless the node says otherwise."""
    value = next((item.t for item in node.proto.attribute if item.name == "value"), None)
    dtype = torch.float32 if value is None else node.dtype(value.data_type)
    number = 0 if value is None else as_tensor(value).reshape(-1)[0].item()
    target = node.operand(0)
    return lambda sizes: torch.full(target((sizes,)), number, dtype=dtype)


@operator("Range", host=(0, 1, 2))
def range_(node: Node) -> Kernel:
    """From a start, not reaching a limit, in steps."""
    return lambda start, limit, step: torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


@operator("EyeLike")
def eye_like(node: Node) -> Kernel:
    """Ones on a diagonal."""
    diagonal, kind = node.get("k", 0), node.get("dtype", None)

    def run(x: Tensor) -> Tensor:
        dtype = x.dtype if kind is None else torch_type(kind)
        return torch.diag_embed(torch.ones(max(x.shape) + abs(diagonal), device=x.device), diagonal)[
            : x.shape[0], : x.shape[1]
        ].to(dtype)

    return run


_VALUES = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}


def constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a Constant node; None where it holds text or a sparse tensor."""
    for item in node.attribute:
        if item.name == "value":
            return item.t
        if item.name in _VALUES:
            number = onnx.helper.get_attribute_value(item)
            return onnx.numpy_helper.from_array(torch.tensor(number, dtype=_VALUES[item.name]).numpy())
    return None


@operator("AffineGrid", host=(1,))
def affine_grid(node: Node) -> Kernel:
    """Where each output position reads, for GridSample."""
    align = bool(node.get("align_corners", 0))
    return lambda theta, sizes: torch.nn.functional.affine_grid(theta, numbers(sizes), align_corners=align)
