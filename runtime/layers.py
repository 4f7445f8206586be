"""All that the latency of one layer depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from ..errors import ModelError

__all__ = ["ACTIVATIONS", "CONVOLUTIONS", "PRODUCTS", "LayerShape"]

ACTIVATIONS = frozenset(
    {"Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Sigmoid", "Softplus", "Tanh"}
)
"""Operators that a layer's `activation` may name."""

CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = ("Gemm", "MatMul")


@dataclass(frozen=True)
class LayerShape:
    """One layer: an operator with its sizes, and the activation that follows."""

    op: str
    """Conv, ConvTranspose, Gemm or MatMul."""
    c_in: int
    c_out: int
    spatial: tuple[int, ...]
    """Size of the input without batch and channels: (height, width); (rows,) of Gemm and MatMul."""
    kernel: tuple[int, ...] = ()
    """Empty of Gemm and MatMul, as are strides, pads and dilations."""
    strides: tuple[int, ...] = ()
    """1 everywhere where left out."""
    pads: tuple[int, ...] = ()
    """All beginnings, then all ends; 0 everywhere where left out."""
    dilations: tuple[int, ...] = ()
    """1 everywhere where left out."""
    group: int = 1
    """`c_in` for a depthwise layer."""
    activation: str = ""
    """The operator that follows, one of `ACTIVATIONS`; onnxruntime computes many of them within the layer."""
    batch: int = 1
    dtype: str = "float32"
    """What it computes in; int8 stands for QDQ form: uint8 activations, int8 weights."""

    def __post_init__(self) -> None:
        rank = len(self.spatial) if self.op in CONVOLUTIONS else 0
        defaults = {"strides": (1,) * rank, "dilations": (1,) * rank, "pads": (0,) * (2 * rank)}
        for name, values in defaults.items():  # filled in, so that equal layers are equal shapes
            if not getattr(self, name):
                object.__setattr__(self, name, values)
        fault = self._fault(rank)
        if fault:
            raise ModelError(f"layer shape {self.op} {self.c_in}->{self.c_out}: {fault}")

    def _fault(self, rank: int) -> str:
        """What is wrong with the fields, if anything."""
        if self.op not in CONVOLUTIONS + PRODUCTS:
            return f"op should be one of {', '.join(CONVOLUTIONS + PRODUCTS)}"
        if self.op in PRODUCTS and (len(self.spatial) != 1 or self.group != 1):
            return f"{self.op} has spatial (rows,) and no groups"
        if not len(self.kernel) == len(self.strides) == len(self.dilations) == len(self.pads) / 2 == rank:
            return f"kernel, strides, dilations and pads should fit spatial {self.spatial}"
        positive = (self.c_in, self.c_out, self.group, self.batch, *self.spatial, *self.kernel, *self.strides)
        if min(positive + self.dilations) < 1 or min(self.pads, default=0) < 0:
            return "sizes should be 1 or more, pads 0 or more"
        if self.c_in % self.group or self.c_out % self.group:
            return f"group {self.group} does not divide both channel counts"
        if self.activation and self.activation not in ACTIVATIONS:
            return f"activation {self.activation!r} is none of {', '.join(sorted(ACTIVATIONS))}"
        if rank and min(self.spatial_out) < 1:
            return f"the kernel {self.kernel} is larger than the padded input {self.spatial}"
        return "" if self.dtype in ("float16", "float32", "float64", "int8") else f"dtype {self.dtype!r} is unknown"

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """Size of the output without batch and channels."""
        if self.op in PRODUCTS:
            return self.spatial
        rank = len(self.spatial)
        sizes = []
        for axis, size in enumerate(self.spatial):
            reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1
            padding = self.pads[axis] + self.pads[axis + rank]
            if self.op == "Conv":
                sizes.append((size + padding - reach) // self.strides[axis] + 1)
            else:
                sizes.append((size - 1) * self.strides[axis] + reach - padding)
        return tuple(sizes)

    @property
    def macs(self) -> int:
        """Multiplications and additions."""
        positions = self.spatial if self.op != "Conv" else self.spatial_out
        return self.batch * prod(positions) * prod(self.kernel) * self.c_in * self.c_out // self.group

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values; `LayerShape.from_dict` takes them, JSON lists included."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> LayerShape:
        """The shape with these fields.

        Raises:
            ModelError: fields that make no layer.
        """
        values: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in fields.items()}
        try:
            return LayerShape(**values)
        except TypeError as error:
            raise ModelError(f"no layer shape: {error}") from error
