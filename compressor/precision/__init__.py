"""Precision as part of the plan: nets in int8 or fp16, made before they are measured and scored.

| file | what it is about |
| --- | --- |
| converter | what a search asks for: candidates quickly, the winner in every way that may be best |
| prepare | what a net needs before: BatchNormalization folded, opset, names |
| ranges, int8, bias | ranges of activations, the QDQ form, mean errors taken off the biases |
| half | fp16 |
"""

from .bias import correct_biases, mean_errors
from .converter import PRECISIONS, Converter, Half, Int8, Same, check_precision, converter_for
from .half import to_half
from .int8 import ACTIVATION_KINDS, LAYERS, Scheme, quantize, ranged_tensors
from .prepare import is_quantized, prepare
from .ranges import Ranges, gather_ranges

__all__ = [
    "ACTIVATION_KINDS",
    "LAYERS",
    "PRECISIONS",
    "Converter",
    "Half",
    "Int8",
    "Ranges",
    "Same",
    "Scheme",
    "check_precision",
    "converter_for",
    "correct_biases",
    "gather_ranges",
    "is_quantized",
    "mean_errors",
    "prepare",
    "quantize",
    "ranged_tensors",
    "to_half",
]
