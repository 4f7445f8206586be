"""What holds for every operator that has a rule, whichever it is.

`USES` has one entry for each; a new rule is tested once it has one too.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, checker, shape_inference

from ortrim.errors import ModelError
from ortrim.graph import analyze, load, slim
from ortrim.graph.rules import names
from ortrim.graph.rules.elementwise import UNARY

FLOAT, BOOL, INT = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT32
CHANNELS = 8
SHAPES = {rank: (2, CHANNELS, 4, 4, 4)[:rank] for rank in (2, 3, 4, 5)}
OPSETS = {"Attention": 23, "Upsample": 9, "RMSNormalization": 23, "Swish": 24}  # all others: 21


def per_channel(n, rank, dtype=np.float32):
    return n.constant(n.rng.uniform(0.5, 2, (CHANNELS,) + (1,) * (rank - 2)).astype(dtype))


def vectors(count, **attributes):
    def use(n, op, x, rank):
        return n.op(op, x, *(n.constant(np.full(CHANNELS, 0.5, np.float32)) for _ in range(count)), **attributes)

    return use


def binary(n, op, x, rank):
    return n.op(op, x, per_channel(n, rank), **({"fmod": 1} if op == "Mod" else {}))


def of_type(kind, dtype, **attributes):
    def use(n, op, x, rank):
        return n.op(op, n.op("Cast", x, to=kind), per_channel(n, rank, dtype), **attributes)

    return use


def plain(**attributes):
    return lambda n, op, x, rank: n.op(op, x, **attributes)


def pooled(n, op, x, rank):
    return n.op(op, x, kernel_shape=[2] * (rank - 2)) if rank > 2 else None


def with_operands(*operands, outputs=1, **attributes):
    """Constant integers behind the data."""
    return lambda n, op, x, rank: n.op(op, x, *(n.integers(*o) for o in operands), outputs=outputs, **attributes)


def scaled(n, op, x, rank):
    scale, zero = n.constant(np.float32(0.05)), n.constant(np.uint8(120))
    quantized = n.op("QuantizeLinear", x, scale, zero)
    return quantized if op == "QuantizeLinear" else n.op(op, quantized, scale, zero)


def over_time(gates):
    """The channels become the features of each step."""

    def use(n, op, x, rank):
        if rank != 3:
            return None
        steps = n.op("Transpose", x, perm=[2, 0, 1])
        return n.op(op, steps, n.weight(1, gates * 6, CHANNELS), n.weight(1, gates * 6, 6), hidden_size=6)

    return use


USES = {
    **{op: plain() for op in UNARY},
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "PRelu"), binary),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "CastLike"), binary),
    **{op: of_type(BOOL, bool) for op in ("And", "Or", "Xor")},
    **{op: of_type(INT, np.int32) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    "BitShift": of_type(TensorProto.UINT8, np.uint8, direction="LEFT"),
    "BitwiseNot": lambda n, op, x, rank: n.op(op, n.op("Cast", x, to=INT)),
    "Not": lambda n, op, x, rank: n.op(op, n.op("Cast", x, to=BOOL)),
    "Cast": plain(to=TensorProto.DOUBLE),
    "Where": lambda n, op, x, rank: n.op(op, n.op("Greater", x, per_channel(n, rank)), x, per_channel(n, rank)),
    "QuantizeLinear": scaled,
    "DequantizeLinear": scaled,
    "Conv": lambda n, op, x, rank: n.op(op, x, n.weight(5, CHANNELS, *[2] * (rank - 2)), n.weight(5)),
    "ConvTranspose": lambda n, op, x, rank: n.op(op, x, n.weight(CHANNELS, 5, *[2] * (rank - 2)), n.weight(5)),
    "Gemm": lambda n, op, x, rank: n.op(op, x, n.weight(CHANNELS, 5), n.weight(5)),
    "MatMul": lambda n, op, x, rank: n.op(op, x, n.weight(SHAPES[rank][-1], 5)),
    "Attention": lambda n, op, x, rank: n.op(op, x, x, x) if rank == 4 else None,
    "GridSample": lambda n, op, x, rank: n.op(op, x, n.weight(2, 3, 3, 2)) if rank == 4 else None,
    "RoiAlign": lambda n, op, x, rank: n.op(op, x, n.weight(3, 4), n.integers(0, 1, 0)) if rank == 4 else None,
    "Einsum": lambda n, op, x, rank: n.op(op, x, x, equation=f"bc{'xyz'[: rank - 2]},dc{'xyz'[: rank - 2]}->bd"),
    "Concat": lambda n, op, x, rank: n.op(op, x, x, axis=1),
    "Split": with_operands((3, 5), outputs=2, axis=1),
    "Reshape": with_operands((0, 4, -1)),
    "Flatten": plain(),
    "Squeeze": lambda n, op, x, rank: n.op(op, n.op("ReduceMax", x, n.integers(0)), n.integers(0)),
    "Unsqueeze": with_operands((1,)),
    "Transpose": plain(),
    "Expand": lambda n, op, x, rank: n.op(op, x, n.integers(3, *(1,) * rank)),
    "Tile": lambda n, op, x, rank: n.op(op, x, n.integers(1, 2, *(1,) * (rank - 2))),
    "Slice": with_operands((-1,), (-100,), (1,), (-2,)),
    "Gather": with_operands((0, 5, 2), axis=1),
    "Pad": lambda n, op, x, rank: n.op(op, x, n.integers(0, 1, *(0,) * (rank - 1), 2, *(1,) * (rank - 2))),
    "DepthToSpace": plain(blocksize=2),
    "SpaceToDepth": plain(blocksize=2),
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), pooled),
    **{op: plain() for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")},
    **{op: plain() for op in ("Softmax", "LogSoftmax", "Hardmax", "LpNormalization")},
    "Resize": lambda n, op, x, rank: n.op(op, x, "", "", n.integers(2, CHANNELS, *(6,) * (rank - 2)), mode="nearest"),
    "Upsample": lambda n, op, x, rank: n.op(op, x, n.constant(np.float32([1, 1, 2, 2, 2][:rank]))),
    "BatchNormalization": vectors(4),
    "InstanceNormalization": vectors(2),
    "GroupNormalization": vectors(2, num_groups=2),
    "LayerNormalization": lambda n, op, x, rank: n.op(op, x, n.weight(SHAPES[rank][-1])),
    "RMSNormalization": lambda n, op, x, rank: n.op(op, x, n.weight(SHAPES[rank][-1])),
    "LRN": plain(size=3),
    "MeanVarianceNormalization": lambda n, op, x, rank: n.op(op, x, axes=[0, *range(2, rank)]),
    **{op: with_operands((-1,)) for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")},
    **{op: with_operands((0,)) for op in ("ReduceL1", "ReduceL2", "ReduceSumSquare")},
    **{op: with_operands((1,), keepdims=0) for op in ("ReduceLogSum", "ReduceLogSumExp")},
    "ArgMax": plain(axis=-1),
    "ArgMin": plain(axis=0, keepdims=0),
    "TopK": with_operands((1,), outputs=2),
    "CumSum": with_operands((1,)),
    "Shape": plain(),
    **{op: over_time(gates) for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))},
}
FIXED_BATCH = {"Resize", "ConvTranspose"}
OPERATORS = sorted(set(names()) - {"SimplifiedLayerNormalization"})  # onnxruntime's own: onnx has no schema of it


def test_every_rule_is_tested():
    assert set(OPERATORS) == set(USES)


def typed(n, name):
    """(element type, shape) of a tensor, or None where the operator does not take what it is given."""
    if n.nodes[-1].op_type in ("GroupNormalization", "MeanVarianceNormalization"):  # onnx infers nothing through them
        return FLOAT, n.shape
    graph = onnx.helper.make_graph(
        n.nodes, "one", n.inputs, [onnx.helper.make_empty_tensor_value_info(name)], n.weights
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", n.opset)], ir_version=8)
    try:
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        checker.check_model(inferred, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError):
        return None
    kind = inferred.graph.output[0].type.tensor_type
    return kind.elem_type, tuple(dim.dim_value or dim.dim_param for dim in kind.shape.dim)


def build(net, op, rank, batch, *, made):
    """`op` on the graph input, or on channels that a layer made; then something that reads its outputs; or None.

    A second chain of layers beside it has a group of its own, called "spare".
    """
    shape = (batch, *SHAPES[rank][1:])
    n = net(shape, opset=OPSETS.get(op, 21))
    n.shape = shape
    x = "x"
    if made:
        weights = n.weight(CHANNELS, CHANNELS, *(1,) * (rank - 2)), n.weight(CHANNELS)
        x = n.op("Gemm", x, *weights, transB=1) if rank == 2 else n.op("Conv", x, *weights)
    outputs = USES[op](n, op, x, rank)
    if outputs is None:
        return None
    n.tested = n.nodes[-1].name
    results = []
    for output in [outputs] if isinstance(outputs, str) else outputs:
        found = typed(n, output)
        if found is None:
            return None
        kind, sizes = found
        if kind != FLOAT:
            output = n.op("Cast", output, to=FLOAT)
        if len(sizes) > 1 and all(isinstance(size, int) for size in sizes[1:]):
            output = n.op("MatMul", n.op("Flatten", output), n.weight(math.prod(sizes[1:]), 3))
            sizes = (sizes[0], 3)
        results.append(onnx.helper.make_tensor_value_info(output, FLOAT, sizes))
    n.inputs.append(onnx.helper.make_tensor_value_info("y", FLOAT, (1, 4)))
    spare = n.op("Gemm", "y", n.weight(4, 6), n.weight(6))
    n.nodes[-1].name = "spare"
    spare = n.op("Gemm", spare, n.weight(6, 3), n.weight(3))
    return n, n.model(*results, onnx.helper.make_tensor_value_info(spare, FLOAT, (1, 3)))


def node_of(model, name):
    """The node's bytes; None where `load` folded it (a Shape of known sizes)."""
    return next((node.SerializeToString() for node in model.graph.node if node.name == name), None)


@pytest.mark.parametrize("op", OPERATORS)
def test_a_rule_holds_its_contract(net, oracle, op):
    tried = 0
    for rank in SHAPES:
        for made, batch in ((False, 2), (True, 2), (True, "batch"), (False, "batch")):
            if batch == "batch" and op in FIXED_BATCH:
                continue
            built = build(net, op, rank, batch, made=made)
            if built is None:
                continue
            tried += 1
            check(*built, oracle if made and batch == 2 and rank < 5 else None, made=made)
    assert tried >= 4, "no use of the operator was valid"


def check(n, model, oracle, *, made):
    loaded = load(model)
    before = loaded.SerializeToString()
    analysis = analyze(loaded)
    # Labels are of the tensor's rank, and on every axis of its size or 1.
    for value in loaded.graph.value_info:
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        labels = analysis.labels[value.name]
        assert labels.ndim == len(sizes)
        assert all(a in (1, b) for a, b in zip(labels.shape, sizes, strict=True))
    # What is fed by the graph input alone is frozen; a recurrent layer reads what it makes, too.
    found = {group.name for group in analysis.groups}
    assert "spare" in found
    if not made:
        read = [group for group in analysis.groups if n.tested in group.consumers]
        assert all(n.tested in group.producers for group in read)
    # A removal elsewhere leaves the node as it is, to the byte.
    small = slim(loaded, {"spare": [0, 3]}, analysis=analysis)
    assert node_of(small, n.tested) == node_of(loaded, n.tested)
    assert loaded.SerializeToString() == before
    # And with everything removed that may go, the graph is valid and computes what the original does.
    removal = {group.name: range(group.size // 2) for group in analysis.groups}
    checker.check_model(slim(loaded, removal, analysis=analysis), full_check=True)
    if oracle:
        try:
            oracle(model)
        except ModelError as error:
            if not str(error).startswith("onnxruntime cannot run the model"):  # it has no kernel for this rank
                raise
