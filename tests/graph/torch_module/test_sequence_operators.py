"""Products, recurrent operators and attention in all their forms, against onnxruntime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from .conftest import normal


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "bhid,bhjd->bhij", "ij->ji", "bi,bi->b", "...ij,jk->...ik"])
def test_einsum(agree_node, equation):
    sizes = dict(zip("bhijkd", (2, 3, 4, 5, 6, 7), strict=True))
    terms = equation.split("->")[0].replace("...", "bh").split(",")
    agree_node("Einsum", [normal(*(sizes[letter] for letter in term)) for term in terms], equation=equation)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 4)), ((2, 5, 2, 3), (5, 3, 4)), ((3,), (2, 3, 4)), ((2, 3), (3,))])
def test_matmul(agree_node, shapes):
    agree_node("MatMul", [normal(*shape) for shape in shapes])


@pytest.mark.parametrize("bias", [None, (4,), (2, 4), (2, 1), (1,)])
def test_gemm(agree_node, bias):
    for trans_a, trans_b, alpha in itertools.product((0, 1), (0, 1), (1.0, 0.5)):
        a, b = normal(*((3, 2) if trans_a else (2, 3))), normal(*((4, 3) if trans_b else (3, 4)))
        more = {"transA": trans_a, "transB": trans_b, "alpha": alpha, "beta": 2 * alpha}
        agree_node("Gemm", [a, b] + ([normal(*bias)] if bias else []), constants=(1, 2), **more)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    "form", ["plain", "states", "lengths", "clip", "activations", "before", "no bias", "peepholes"]
)
def test_recurrent(agree_node, kind, direction, form):
    gates, hidden, size, steps, batch = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 4, 3, 5, 2
    n = 2 if direction == "bidirectional" else 1
    w, r = normal(n, gates * hidden, size), normal(n, gates * hidden, hidden)
    inputs = [normal(steps, batch, size), w, r, normal(n, 2 * gates * hidden), None, None, None, None]
    more = {"direction": direction, "hidden_size": hidden, "outputs": 3 if kind == "LSTM" else 2}
    if form == "no bias":
        inputs[3] = None
    elif form == "states":
        inputs[5:7] = normal(n, batch, hidden), normal(n, batch, hidden) * 0.5
    elif form == "lengths":
        inputs[4] = np.int32([3, 5])
    elif form == "clip":
        more["clip"] = 0.7
    elif form == "activations":
        names = {"LSTM": ["HardSigmoid", "Relu", "Tanh"], "GRU": ["HardSigmoid", "Softsign"], "RNN": ["Relu"]}[kind]
        more |= {"activations": names * n}
    elif form == "before":
        if kind != "GRU":
            pytest.skip("of GRU only")
        more["linear_before_reset"] = 1
    elif form == "peepholes":
        if kind != "LSTM":
            pytest.skip("of LSTM only")
        inputs[7] = normal(n, 3 * hidden)
    if kind != "LSTM":
        inputs = inputs[:6]
    while inputs[-1] is None:
        inputs.pop()
    agree_node(kind, inputs, constants=(1, 2, 3, 7), opset=14, tolerance=1e-4, **more)


@pytest.mark.parametrize("form", ["plain", "mask", "hidden", "causal", "few heads", "flat", "softcap", "past"])
def test_attention(agree_node, form):
    q, k, v = normal(2, 4, 5, 8), normal(2, 4, 6, 8), normal(2, 4, 6, 7)
    inputs, more = [q, k, v], {"outputs": 1}
    match form:
        case "mask":
            inputs.append(normal(5, 6))
        case "hidden":
            inputs.append(np.random.default_rng(0).random((2, 1, 5, 6)) > 0.4)
        case "causal":
            more["is_causal"] = 1
        case "few heads":
            inputs = [q, k[:, :2], v[:, :2]]
        case "flat":
            inputs = [normal(2, 5, 32), normal(2, 6, 32), normal(2, 6, 28)]
            more |= {"q_num_heads": 4, "kv_num_heads": 4, "scale": 0.4}
        case "softcap":
            more["softcap"] = 2.0
        case "past":
            inputs += [None, normal(2, 4, 3, 8), normal(2, 4, 3, 7)]
            more["outputs"] = 3
    agree_node("Attention", inputs, opset=23, **more)
