"""Whether two models can stand in for each other: what they take and what they give."""

from __future__ import annotations

from typing import Literal

import onnx

from .protos import Shape, tensor_shapes

__all__ = ["misfit"]


def misfit(model: onnx.ModelProto, original: onnx.ModelProto, kind: Literal["input", "output"]) -> str | None:
    """The first of the model's inputs or outputs whose shape cannot be that of the original's at the same place.

    Sizes that are not fixed in both models fit any other; names are not looked at.

    Returns:
        In words, of the model and then of the original; None where all fit.
    """
    ours, theirs = ([value.name for value in getattr(net.graph, kind)] for net in (model, original))
    if len(ours) != len(theirs):
        return f"{len(ours)} {kind}s against {len(theirs)}"
    shapes, wanted = tensor_shapes(model), tensor_shapes(original)
    for mine, other in zip(ours, theirs, strict=True):
        a, b = shapes.get(mine), wanted.get(other)
        if a is not None and b is not None and not _fit(a, b):
            return f"{kind} {mine} {_words(a)} against {other} {_words(b)}"
    return None


def _fit(a: Shape, b: Shape) -> bool:
    known = ((x, y) for x, y in zip(a, b, strict=False) if isinstance(x, int) and isinstance(y, int))
    return len(a) == len(b) and all(x == y for x, y in known)


def _words(shape: Shape) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape) or "a number"
