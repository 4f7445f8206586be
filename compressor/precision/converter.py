"""From the fp32 nets of a search to what runs on the device, in the precision that was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import onnx

from ...errors import InputError
from ..recovery.activations import Feeds
from .bias import correct_biases
from .half import to_half
from .int8 import Scheme, quantize, ranged_tensors
from .prepare import is_quantized, prepare
from .ranges import first_samples, gather_ranges

__all__ = ["PRECISIONS", "Converter", "Half", "Int8", "Same", "check_precision", "converter_for"]

PRECISIONS = ("fp32", "fp16", "int8")
CANDIDATE_SAMPLES = 64
"""That the ranges of a candidate are taken from; the winner's are taken from all calibration samples."""
CORRECTION_SAMPLES = 64
"""That mean errors are taken from: each layer needs a pass over them."""
_CPU = ("cpu", "xnnpack")
"""Providers that compute in fp32 what is given in fp16."""


class Converter(Protocol):
    """Turns fp32 nets into what is measured, scored and handed out."""

    precision: str
    layer_dtype: str
    """`LayerShape.dtype` of its layers, for the latency table."""

    def quick(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """For a candidate of the search."""
        ...

    def variants(self, model: onnx.ModelProto) -> list[tuple[str, onnx.ModelProto]]:
        """After recovery, with the name of the stage that made it; any may be the best."""
        ...


@dataclass(frozen=True)
class Same:
    """fp32: nets stay as they are."""

    precision: str = "fp32"
    layer_dtype: str = "float32"

    def quick(self, model: onnx.ModelProto) -> onnx.ModelProto:
        return model

    def variants(self, model: onnx.ModelProto) -> list[tuple[str, onnx.ModelProto]]:
        return []


@dataclass(frozen=True)
class Half:
    """fp16."""

    precision: str = "fp16"
    layer_dtype: str = "float16"

    def quick(self, model: onnx.ModelProto) -> onnx.ModelProto:
        return to_half(model)

    def variants(self, model: onnx.ModelProto) -> list[tuple[str, onnx.ModelProto]]:
        return [("conversion to fp16", to_half(model))]


@dataclass(frozen=True)
class Int8:
    """int8 in QDQ form, calibrated on unlabelled samples."""

    feeds: Feeds
    scheme: Scheme = field(default_factory=Scheme)
    threads: int = 0
    precision: str = "int8"
    layer_dtype: str = "int8"

    def quick(self, model: onnx.ModelProto) -> onnx.ModelProto:
        prepared = prepare(model)
        feeds = first_samples(self.feeds, CANDIDATE_SAMPLES)
        ranges = gather_ranges(prepared, ranged_tensors(prepared), feeds, threads=self.threads)
        return quantize(prepared, ranges, self.scheme)

    def variants(self, model: onnx.ModelProto) -> list[tuple[str, onnx.ModelProto]]:
        prepared = prepare(model)
        ranges = gather_ranges(prepared, ranged_tensors(prepared), self.feeds, threads=self.threads)
        some = first_samples(self.feeds, CORRECTION_SAMPLES)
        corrected = correct_biases(prepared, ranges, some, self.scheme, threads=self.threads)
        return [
            ("quantization to int8", quantize(prepared, ranges, self.scheme)),
            ("bias correction", quantize(corrected, ranges, self.scheme)),
        ]


def check_precision(precision: str, provider: str) -> None:
    """Refuse what cannot pay on a device.

    Args:
        provider: as a device spec names it; empty where it is not known.

    Raises:
        InputError: an unknown precision, or fp16 on a CPU.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}; --precision takes one of: {', '.join(PRECISIONS)}")
    if precision == "fp16" and provider in _CPU:
        raise InputError(
            f"--precision fp16 gains nothing on {provider}, which computes it in fp32 with conversions around; "
            "take int8, or a GPU with --device"
        )


def converter_for(precision: str, model: onnx.ModelProto, feeds: Feeds) -> Converter:
    """The converter of a job.

    Raises:
        InputError: a model that is quantized already.
    """
    if precision == "fp32":
        return Same()
    if is_quantized(model):
        raise InputError(
            f"--precision {precision}: the model is quantized already; give the fp32 model that it was made from"
        )
    return Half() if precision == "fp16" else Int8(feeds)
