"""Attention as people export it, against the oracle: heads, head sizes, tokens, and what must be left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from ortrim.graph import analyze, load

from .conftest import sizes


@pytest.fixture
def attention():
    """`attention(net, normed)`: four heads of six channels; the names of the layers begin with q, k, v and out."""

    def build(n, normed=False):
        heads = {}
        for part in "qkv":
            y = n.op("Add", n.op("MatMul", "x", n.weight(16, 24)), n.weight(24))
            y = n.op("Transpose", n.op("Reshape", y, n.integers(2, 5, 4, 6)), perm=[0, 2, 1, 3])
            if normed and part != "v":  # cosine attention
                y = n.op("Div", y, n.op("ReduceL2", y, axes=[-1]))
            heads[part] = y
        scores = n.op("MatMul", heads["q"], n.op("Transpose", heads["k"], perm=[0, 1, 3, 2]))
        scores = n.op("Softmax", n.op("Add", n.op("Mul", scores, n.weight(4, 1, 1)), n.weight(1, 4, 5, 5)), axis=-1)
        mixed = n.op("Transpose", n.op("MatMul", scores, heads["v"]), perm=[0, 2, 1, 3])
        return n.model(n.op("MatMul", n.op("Reshape", mixed, n.integers(2, 5, 24)), n.weight(24, 7)))

    return build


@pytest.mark.parametrize("normed", [False, True])
def test_attention_prunes_head_size_and_heads(net, attention, oracle, normed):
    analysis = oracle(attention(net((2, 5, 16), opset=17), normed))
    size_of_head = [group for group in analysis.groups if group.size == 6]
    (heads,) = (group for group in analysis.groups if group.size == 4)
    assert sorted(group.exact for group in size_of_head) == [False, True]  # scores depend on every channel of q and k
    assert heads.exact
    assert heads.name.endswith("/heads")
    assert analysis.crossing == {frozenset((heads.name, group.name)) for group in size_of_head}


def test_heads_and_head_size_go_together(net, attention, removed):
    model = load(attention(net((2, 5, 16))))
    analysis = analyze(model)
    removal = {group.name: [0, 2] if group.size == 4 else [1, 2, 5] for group in analysis.groups}
    small = removed(model, analysis, removal)
    weights = [tuple(tensor.dims) for tensor in small.graph.initializer if len(tensor.dims) == 2]
    assert weights == [(16, 6), (16, 6), (16, 6), (6, 7)]  # two heads of three channels
    positions = analysis.kept(removal).along(small.graph.node[0].output[0], 2)
    assert positions.tolist() == [6, 9, 10, 18, 21, 22]


def test_attention_over_channels_prunes_heads(net, oracle):
    """As XCiT and EdgeNeXt have it: scores between the channels of a head, which is an outer product of channels."""
    n = net((2, 5, 16))
    qkv = n.op("Reshape", n.op("MatMul", "x", n.weight(16, 36)), n.integers(2, 5, 3, 4, 3))
    parts = n.op("Split", n.op("Transpose", qkv, perm=[2, 0, 3, 4, 1]), n.integers(1, 1, 1), outputs=3, axis=0)
    q, k, v = (n.op("Squeeze", part, n.integers(0)) for part in parts)
    scores = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    mixed = n.op("Transpose", n.op("MatMul", scores, v), perm=[0, 3, 1, 2])
    out = n.op("MatMul", n.op("Reshape", mixed, n.integers(2, 5, 12)), n.weight(12, 7))
    (heads,) = oracle(n.model(out)).groups
    assert (heads.size, heads.exact, heads.name) == (4, True, "MatMul_0")


def test_a_class_token(net, oracle):
    """Expanded to the batch and put in front of the tokens: it makes channels of the stream."""
    n = net(("batch", 3, 8, 8), opset=18)
    tokens = n.op("Transpose", n.op("Reshape", n.conv("x", 12, stride=2), n.integers(0, 12, -1)), perm=[0, 2, 1])
    target = n.op("Concat", n.op("Shape", "x", start=0, end=1), n.integers(1, 12), axis=0)
    token = n.weight(1, 1, 12)
    x = n.op("Concat", n.op("Expand", token, target), tokens, axis=1)
    x = n.op("LayerNormalization", n.op("Add", x, n.weight(1, 17, 12)), n.weight(12), n.weight(12), axis=-1)
    hidden = n.op("MatMul", n.op("Erf", n.op("MatMul", x, n.weight(12, 20))), n.weight(20, 12))
    x = n.op("Gather", n.op("Add", x, hidden), n.constant(np.int64(0)), axis=1)
    analysis = oracle(n.model(n.op("MatMul", x, n.weight(12, 5))))
    assert {group.size: (group.exact, group.removable) for group in analysis.groups} == {
        12: (False, False),
        20: (True, True),
    }
    stream = next(group for group in analysis.groups if group.size == 12)
    assert token in {item.tensor for item in stream.slices([0])}


def test_a_class_token_as_the_legacy_exporter_writes_it(net, oracle):
    """The target of the Expand goes through Equal and Where, and repeats the number of channels."""
    n = net(("batch", 4, 12), opset=18)
    x = n.op("Add", n.op("MatMul", "x", n.weight(12, 8)), n.weight(8))
    wanted = n.op("Concat", n.op("Shape", x, start=0, end=1), n.integers(-1, -1), axis=0)
    wanted = n.op("Reshape", wanted, n.integers(-1))
    unknown = n.op("Equal", wanted, n.op("Mul", n.op("ConstantOfShape", n.integers(3), value=ones()), n.integers(-1)))
    target = n.op("Where", unknown, n.op("Concat", n.integers(1, 1), n.integers(8), axis=0), wanted)
    x = n.op("Concat", n.op("Expand", n.weight(1, 1, 8), target), x, axis=1)
    assert sizes(oracle(n.model(n.op("MatMul", n.op("Relu", x), n.weight(8, 5))))) == [8]


def ones():
    return onnx.helper.make_tensor("value", onnx.TensorProto.INT64, [1], [1])


def test_heads_that_share_an_axis_with_the_batch(net, oracle):
    """torch's MultiheadAttention: (tokens, batch, 12) as (tokens, 3 * batch, 4), time first."""
    n = net(("batch", 5, 16), opset=18)
    x = n.op("Transpose", "x", perm=[1, 0, 2])
    parts = {}
    for part in "qkv":
        y = n.op("Reshape", n.op("MatMul", x, n.weight(16, 12)), n.integers(5, -1, 4))
        parts[part] = n.op("Transpose", y, perm=[1, 0, 2])
    scores = n.op("MatMul", parts["q"], n.op("Transpose", parts["k"], perm=[0, 2, 1]))
    mixed = n.op("Transpose", n.op("MatMul", n.op("Softmax", scores, axis=-1), parts["v"]), perm=[1, 0, 2])
    out = n.op("MatMul", n.op("Reshape", mixed, n.integers(5, -1, 12)), n.weight(12, 7))
    assert sizes(oracle(n.model(out))) == [3, 4, 4]


def test_channels_beside_the_batch_are_not_heads(net, oracle):
    """(3, batch) as one axis: heads are outside, so they do not repeat with the images."""
    n = net(("batch", 5, 16), opset=18)
    y = n.op("Reshape", n.op("MatMul", "x", n.weight(16, 12)), n.integers(0, 5, 3, 4))
    y = n.op("Reshape", n.op("Transpose", y, perm=[2, 0, 1, 3]), n.integers(-1, 5, 4))
    analysis = oracle(n.model(n.op("MatMul", y, n.weight(4, 3))))
    assert all(group.size != 3 for group in analysis.groups)


def test_attention_by_einsum(net, oracle):
    n = net((2, 5, 16))
    q, k, v = (n.op("Reshape", n.op("MatMul", "x", n.weight(16, 24)), n.integers(2, 5, 4, 6)) for _ in range(3))
    scores = n.op("Softmax", n.op("Einsum", q, k, equation="bihd,bjhd->bhij"), axis=-1)
    mixed = n.op("Reshape", n.op("Einsum", scores, v, equation="bhij,bjhd->bihd"), n.integers(2, 5, 24))
    assert sizes(oracle(n.model(n.op("MatMul", mixed, n.weight(24, 7))))) == [4, 6, 6]


@pytest.mark.parametrize("mask", [None, (5, 5), (4, 5, 5), "computed"])
@pytest.mark.parametrize("row", [False, True])
@pytest.mark.parametrize("kv", [4, 2])
def test_attention_as_one_operator(net, oracle, kv, row, mask):
    """Heads in a row or on an axis of their own; two of the query may share one of the keys."""
    n = net((2, 5, 16), opset=23)
    parts, counts = [], (4, kv, kv)
    for heads in counts:
        y = n.op("Add", n.op("MatMul", "x", n.weight(16, heads * 6)), n.weight(heads * 6))
        if not row:
            y = n.op("Transpose", n.op("Reshape", y, n.integers(2, 5, heads, 6)), perm=[0, 2, 1, 3])
        parts.append(y)
    if mask == "computed":
        bias = n.op("Reshape", n.op("MatMul", "x", n.weight(16, 4)), n.integers(2, 5, 4, 1))
        parts.append(n.op("Expand", n.op("Transpose", bias, perm=[0, 2, 1, 3]), n.integers(2, 4, 5, 5)))
    elif mask:
        parts.append(n.weight(*mask))
    out = n.op("Attention", *parts, **({"q_num_heads": 4, "kv_num_heads": kv} if row else {}))
    if not row:
        out = n.op("Reshape", n.op("Transpose", out, perm=[0, 2, 1, 3]), n.integers(2, 5, 24))
    analysis = oracle(n.model(n.op("MatMul", out, n.weight(24, 7))))
    found = {(group.size, group.exact) for group in analysis.groups}
    assert {(6, False), (6, True)} <= found
    assert (kv, True) in found


def test_attention_that_goes_on_from_earlier_steps_freezes(net, oracle):
    n = net((2, 4, 5, 6), opset=23)
    part = n.op("MatMul", "x", n.weight(6, 6))
    past = n.op("MatMul", "x", n.weight(6, 6))
    out = n.op("Attention", part, part, part, "", past, past, outputs=3)
    analysis = oracle(n.model(n.op("MatMul", out[0], n.weight(6, 3)), out[1], out[2]))
    assert not analysis.groups
