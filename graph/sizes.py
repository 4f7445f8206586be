"""Sizes that are not fixed, as products: `12*batch` is twelve times whatever `batch` turns out to be.

onnx's shape inference gives every size that it cannot name a symbol of its own. `name_sizes` says what many of these
are: a Reshape holds as many entries after as before. That keeps the batch one symbol through a whole graph.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import onnx
from onnx import numpy_helper

from .protos import Dim, Shape, tensor_shapes

__all__ = ["name_sizes", "product", "quotient", "split"]

_PRODUCT = re.compile(r"(?:(\d+)\*)?([^*]+(?:\*[^*]+)*)")
_BROADCASTING = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "PRelu", "Where", "MatMul"),
    *("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
}


def split(size: str) -> tuple[int, str]:
    """The number and the symbols of a size: `12*batch` -> (12, "batch")."""
    match = _PRODUCT.fullmatch(size)
    return (int(match.group(1) or 1), match.group(2)) if match else (1, size)


def product(sizes: Iterable[Dim]) -> Dim:
    """The product, or None where one of them is unknown."""
    count, symbols = 1, list[str]()
    for size in sizes:
        if size is None:
            return None
        if isinstance(size, int):
            count *= size
        else:
            number, rest = split(size)
            count *= number
            symbols += rest.split("*")
    return _join(count, symbols)


def quotient(whole: Dim, part: Dim) -> Dim:
    """`whole / part`, or None where that is not a product again."""
    if whole is None or part is None or part == 0:
        return None
    (a, above), (b, below) = _parts(whole), _parts(part)
    if a % b or below - above:
        return None
    return _join(a // b, list((above - below).elements()))


def _parts(size: int | str) -> tuple[int, Counter[str]]:
    if isinstance(size, int):
        return size, Counter()
    count, rest = split(size)
    return count, Counter(rest.split("*"))


def _join(count: int, symbols: list[str]) -> int | str:
    if not symbols or count == 0:
        return count
    return "*".join([str(count)] * (count != 1) + sorted(symbols))


def name_sizes(model: onnx.ModelProto) -> None:
    """Rename, in place, the symbols of inner tensors that are products of others, and fix those that are numbers."""
    shapes, meaning = tensor_shapes(model), dict[str, Dim]()

    def named(name: str) -> Shape | None:
        shape = shapes.get(name)
        return None if shape is None else tuple(meaning.get(size, size) for size in shape)

    factors = {
        tensor.name: numpy_helper.to_array(tensor).tolist()
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 1 and tensor.dims[0] <= 8
    }
    given = {size for value in model.graph.input for size in shapes.get(value.name, ()) if isinstance(size, str)}
    for node in model.graph.node:
        if not node.output or not (shape := shapes.get(node.output[0])):
            continue
        fresh = [
            axis
            for axis, size in enumerate(shape)
            if isinstance(size, str) and size not in given and size not in meaning
        ]
        if not fresh:
            continue
        if node.op_type == "Reshape" and len(fresh) == 1:
            source, target = named(node.input[0]), named(node.output[0])
            rest = product(size for axis, size in enumerate(target) if axis != fresh[0])
            found = {fresh[0]: quotient(product(source), rest)} if source is not None else {}
        elif node.op_type in _BROADCASTING:
            found = _broadcast([named(name) for name in node.input if name], len(shape), fresh)
        elif node.op_type in ("Resize", "Upsample"):
            scales = next((scale for name in node.input[1:] if len(scale := factors.get(name, ())) == len(shape)), ())
            source = named(node.input[0]) or ()
            found = {axis: source[axis] for axis in fresh if axis < min(len(source), len(scales)) and scales[axis] == 1}
        else:
            found = {}
        meaning |= {shape[axis]: size for axis, size in found.items() if size is not None}
    for value in model.graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            size = meaning.get(dim.dim_param)
            if isinstance(size, int):
                dim.dim_value = size
            elif size is not None:
                dim.dim_param = size


def _broadcast(operands: list[Shape | None], rank: int, axes: list[int]) -> dict[int, Dim]:
    """Sizes on which all operands that do not broadcast agree.

    Two that differ by name may be equal all the same, or one of them 1: nothing is said of these.
    """
    if any(shape is None for shape in operands):
        return {}
    padded = [(1,) * (rank - len(shape)) + shape for shape in operands if len(shape) <= rank]
    found = {}
    for axis in axes:
        sizes = {shape[axis] for shape in padded} - {1}
        if len(sizes) == 1:
            found[axis] = sizes.pop()
    return found
