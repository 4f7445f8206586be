"""The ONNX operators as a table: one small rule each, one file a family.

| file | operators |
| --- | --- |
| elementwise | activations and other unary operators, arithmetic, comparison, Where, PRelu, (De)QuantizeLinear |
| convolution | Conv, ConvTranspose |
| linear | Gemm, MatMul |
| contraction | Einsum, and MatMul of two computed tensors |
| attention | Attention |
| joining | Concat, Split |
| reshaping | Reshape, Flatten, Squeeze, Unsqueeze |
| moving | Transpose, Expand, Tile, Slice, Gather, Pad, DepthToSpace, SpaceToDepth |
| pooling | pools over space, Resize, Upsample, GridSample, RoiAlign |
| normalization | Batch-, Instance-, Group-, Layer-, RMS-, Lp- and MeanVarianceNormalization, LRN, Softmax |
| reduction | Reduce*, ArgMax, ArgMin, TopK, CumSum, Shape |
| recurrent | LSTM, GRU, RNN |

An operator without a rule (and every node with a subgraph) freezes what it touches.
"""

from . import (
    attention,
    contraction,
    convolution,
    elementwise,
    joining,
    linear,
    moving,
    normalization,
    pooling,
    recurrent,
    reduction,
    reshaping,
)
from .registry import Rule, find, names, rule

__all__ = [
    "Rule",
    "attention",
    "contraction",
    "convolution",
    "elementwise",
    "find",
    "joining",
    "linear",
    "moving",
    "names",
    "normalization",
    "pooling",
    "recurrent",
    "reduction",
    "reshaping",
    "rule",
]
