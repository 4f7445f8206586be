"""What a model wants to be fed: names, types and shapes of its inputs, and which of them are images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import onnx

from ...errors import InputError, ModelError

__all__ = ["ImageLayout", "InputSpec", "TensorSpec"]

_IMAGE_CHANNELS = (1, 3)


@dataclass(frozen=True)
class ImageLayout:
    """How an image input arranges its axes, batch axis first."""

    channels: int | None
    """1 or 3; None when the model leaves it open."""
    height: int | None
    width: int | None
    channels_last: bool
    """NHWC (TensorFlow's order) instead of NCHW."""

    def sample_shape(self) -> tuple[int | None, ...]:
        """Shape of one image in the model's own order."""
        if self.channels_last:
            return (self.height, self.width, self.channels)
        return (self.channels, self.height, self.width)


@dataclass(frozen=True)
class TensorSpec:
    """One input of a model."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...] | None
    """None in place of a size that the model leaves open; None altogether when even the rank is open."""

    @cached_property
    def image(self) -> ImageLayout | None:
        """The layout when the input looks like images: rank 4 with 1 or 3 channels, or open, on axis 1 or 3."""
        if self.shape is None or len(self.shape) != 4:
            return None
        _, first, middle, last = self.shape
        if first in _IMAGE_CHANNELS:
            return ImageLayout(first, middle, last, channels_last=False)
        if last in _IMAGE_CHANNELS or (last is None and first is not None):
            return ImageLayout(last, first, middle, channels_last=True)
        if first is None:
            return ImageLayout(None, middle, last, channels_last=False)
        return None

    def sized(self, height: int, width: int) -> Self:
        """The same image input with its open height and width set.

        Raises:
            InputError: the model fixes another size.
        """
        layout = self.image
        if layout is None or self.shape is None:
            return self
        if layout.height not in (None, height) or layout.width not in (None, width):
            raise InputError(
                f"--size {height} {width} does not fit input {self.name!r}, which takes {layout.height}x{layout.width}"
            )
        batch = self.shape[0]
        shape = replace(layout, height=height, width=width).sample_shape()
        return replace(self, shape=(batch, *shape))

    def __str__(self) -> str:
        shape = "of any shape" if self.shape is None else "x".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name!r} ({self.dtype} {shape or 'scalar'})"


@dataclass(frozen=True)
class InputSpec:
    """Every input of a model, in its order."""

    inputs: tuple[TensorSpec, ...]

    @classmethod
    def from_model(cls, model: onnx.ModelProto, size: tuple[int, int] | None = None) -> Self:
        """What `model` takes; initializers that are also listed as inputs do not count.

        Args:
            size: height and width (`--size H W`) for image inputs that leave them open.

        Raises:
            InputError: `size` contradicts the model, or the model has no image input.
            ModelError: an input that is no tensor of numbers, or no input at all.
        """
        constant = {initializer.name for initializer in model.graph.initializer}
        inputs = tuple(_tensor(value) for value in model.graph.input if value.name not in constant)
        if not inputs:
            raise ModelError("the model has no input to feed")
        if size is None:
            return cls(inputs)
        if min(size) < 1:
            raise InputError(f"--size {size[0]} {size[1]}: height and width start at 1")
        if not any(tensor.image for tensor in inputs):
            raise InputError("--size is for images, and none of the model's inputs is an image")
        return cls(tuple(tensor.sized(*size) for tensor in inputs))

    @cached_property
    def image(self) -> TensorSpec | None:
        """The input that a folder of images feeds: the only one, and an image; None otherwise."""
        return self.inputs[0] if len(self.inputs) == 1 and self.inputs[0].image else None


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"input {value.name!r} is no tensor: sequences, maps and optional inputs cannot be fed")
    kind = value.type.tensor_type
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError as error:
        raise ModelError(f"input {value.name!r} has the unknown type number {kind.elem_type}") from error
    if dtype.kind not in "fiub":
        raise ModelError(f"input {value.name!r} is of type {dtype}: only numbers that numpy has can be fed")
    if not kind.HasField("shape"):
        return TensorSpec(value.name, dtype, None)
    shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)
    return TensorSpec(value.name, dtype, shape)
