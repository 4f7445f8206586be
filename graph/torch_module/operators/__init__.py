"""Every operator that torch can run for an ONNX graph, one file a family; they mirror `graph.rules`.

| file | operators |
| --- | --- |
| elementwise | activations and other unary operators, arithmetic, comparison, Where, PRelu, Cast, Clip |
| convolution, spatial | Conv, ConvTranspose; how windows slide |
| linear | Gemm, MatMul, Einsum, Det |
| attention | Attention, RotaryEmbedding |
| joining | Concat, Split |
| reshaping | Reshape, Flatten, Squeeze, Unsqueeze |
| moving | Transpose, Expand, Tile, Slice, Pad, DepthToSpace, SpaceToDepth, Trilu, ReverseSequence, Col2Im |
| indexing | Gather, GatherElements, GatherND, ScatterElements, ScatterND, OneHot, NonZero, Compress, Unique |
| pooling, resize | pools over space; Resize, Upsample |
| normalization | Batch-, Instance-, Group-, Layer-, RMS-, Lp- and MeanVarianceNormalization, LRN, Softmax |
| reduction | Reduce*, ArgMax, ArgMin, TopK, CumSum, CumProd |
| recurrent | LSTM, GRU, RNN |
| quantization | QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, MatMulInteger |
| detection | GridSample, RoiAlign, NonMaxSuppression |
| generating | Shape, Size, ConstantOfShape, Range, EyeLike, AffineGrid |
| control, sequences | If, Loop; lists of tensors |
"""

from . import (
    attention,
    control,
    convolution,
    detection,
    elementwise,
    generating,
    indexing,
    joining,
    linear,
    moving,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    reshaping,
    resize,
    sequences,
)

__all__ = [
    "attention",
    "control",
    "convolution",
    "detection",
    "elementwise",
    "generating",
    "indexing",
    "joining",
    "linear",
    "moving",
    "normalization",
    "pooling",
    "quantization",
    "recurrent",
    "reduction",
    "reshaping",
    "resize",
    "sequences",
]
