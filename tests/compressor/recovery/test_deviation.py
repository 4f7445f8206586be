"""How far outputs are from the original's."""

import numpy as np

from ortrim.compressor.recovery.deviation import OutputDeviation
from ortrim.compressor.recovery.refit import with_weights


def test_error_is_relative_to_the_variance(residual, images):
    constant = with_weights(residual, {"head": np.zeros((5, 8), np.float32)})
    assert OutputDeviation(residual, images)(constant) > 0.9


def test_errors_are_seen_before_a_softmax(build, images):
    text = """g (float[N,3,8,8] x) => (float[N,5] y) {
        p = GlobalAveragePool(x) f = Flatten(p) z = Gemm(f, w) y = Softmax(z)
    }"""
    model = build(text, {"w": (3, 5)})
    (weight,) = (t for t in model.graph.initializer if t.name == "w")
    half = with_weights(model, {"w": 0.5 * np.frombuffer(weight.raw_data, np.float32).reshape(3, 5)})
    logits = OutputDeviation(model, images)(half)
    assert 0.2 < logits < 0.3 + logits * 0.1  # a quarter of the energy about zero, nearly that about the mean


def test_a_feature_that_varies_little_counts_as_much(build, images):
    model = build("g (float[N,3,8,8] x) => (float[N,2,8,8] y) { y = Conv(x, w) }", {"w": (2, 3, 1, 1)})
    (weight,) = (t for t in model.graph.initializer if t.name == "w")
    scales = np.float32([100, 1]).reshape(2, 1, 1, 1)
    values = scales * np.frombuffer(weight.raw_data, np.float32).reshape(2, 3, 1, 1)
    error = OutputDeviation(with_weights(model, {"w": values}), images)
    assert error(with_weights(model, {"w": values})) == 0
    blind = values * np.float32([1, 0]).reshape(2, 1, 1, 1)
    assert error(with_weights(model, {"w": blind})) > 0.45
