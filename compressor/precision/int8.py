"""A net in int8: QDQ form, by onnxruntime's own static quantization, from ranges that are known."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import onnx

from .ranges import Ranges
from .saturation import weight_bits

__all__ = ["ACTIVATION_KINDS", "LAYERS", "Scheme", "quantize", "ranged_tensors"]

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What int8 is for; the other operators follow, so that values stay in int8 between layers."""
_FOLLOWERS = (
    *("Add", "Clip", "Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Pad", "Slice"),
    *("Split", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Resize"),
)
ACTIVATION_KINDS = ("uint8", "int8", "int8 symmetric")


@dataclass(frozen=True)
class Scheme:
    """How activations are written; weights are int8, symmetric, with a scale for each output channel."""

    activations: str = "uint8"
    """One of `ACTIVATION_KINDS`."""
    bits: int = field(default_factory=weight_bits)
    """That weights use: 8, or 7 for processors that cut sums off."""


def ranged_tensors(prepared: onnx.ModelProto) -> list[str]:
    """The tensors whose range `quantize` needs: what the operators that it converts read and make."""
    constants = {tensor.name for tensor in prepared.graph.initializer}
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in (*prepared.graph.value_info, *prepared.graph.input, *prepared.graph.output)
    }
    wanted: dict[str, None] = {}
    for node in prepared.graph.node:
        if node.op_type in LAYERS or node.op_type in _FOLLOWERS:
            wanted.update(dict.fromkeys(name for name in (*node.input, *node.output) if name and name not in constants))
    return [name for name in wanted if kinds.get(name) == onnx.TensorProto.FLOAT]


def quantize(
    prepared: onnx.ModelProto, ranges: Ranges, scheme: Scheme | None = None, *, open_outputs: bool = False
) -> onnx.ModelProto:
    """The QDQ form of a net.

    Inputs and outputs stay as they are.

    Args:
        prepared: of `prepare`.
        ranges: of `ranged_tensors`.
        open_outputs: leave what layers make unrounded and keep every activation: the same arithmetic with the values
            before the activation to be seen, which onnxruntime runs more slowly.
    """
    # Slow to import, and needed for this alone.
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData

    scheme = scheme or Scheme()
    kind = scheme.activations
    data = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    options = {"ActivationSymmetric": kind.endswith("symmetric"), "WeightSymmetric": True}
    if open_outputs:
        options |= {"OpTypesToExcludeOutputQuantization": list(LAYERS), "QDQKeepRemovableActivations": True}
    source = onnx.ModelProto()
    source.CopyFrom(prepared)
    with _quiet():
        quantizer = QDQQuantizer(
            source,
            per_channel=True,
            reduce_range=scheme.bits == 7,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if kind == "uint8" else QuantType.QInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=[],
            nodes_to_exclude=[],
            op_types_to_quantize=[*LAYERS, *_FOLLOWERS],
            extra_options=options,
        )
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    out = quantizer.model.model
    del out.graph.value_info[:]
    return out


@contextmanager
def _quiet() -> Iterator[None]:
    """The tool speaks to the root logger, about every tensor that it leaves alone."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
