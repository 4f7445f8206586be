"""int8 and fp16: what stays, what changes, and how close it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper

from ortrim.compressor.precision import (
    Int8,
    Same,
    Scheme,
    check_precision,
    converter_for,
    correct_biases,
    gather_ranges,
    mean_errors,
    prepare,
    quantize,
    ranged_tensors,
    saturation,
    to_half,
)
from ortrim.errors import InputError, ModelError

NORMED = """g (float[N,3,8,8] x) => (float[N,5] y) {
    a = Conv<pads=[1,1,1,1]>(x, w) n = BatchNormalization(a, s, o, m, positive) h = Relu(n)
    c = Conv(h, v, d) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB=1>(f, u, e)
}"""
SHAPES = {"w": (8, 3, 3, 3), "s": (8,), "o": (8,), "m": (8,), "positive": (8,)}
SHAPES |= {"v": (12, 8, 3, 3), "d": (12,), "u": (5, 12), "e": (5,)}


def outputs(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images})[0]


def off_by(model, other, images):
    """Error relative to the spread of the outputs."""
    wanted = outputs(model, images)
    return float(np.sqrt(np.square(outputs(other, images) - wanted).mean()) / wanted.std())


@pytest.fixture(scope="module")
def normed(build):
    return build(NORMED, SHAPES)


@pytest.mark.parametrize("activations", ["uint8", "int8", "int8 symmetric"])
@pytest.mark.parametrize("net", ["residual", "normed"])
def test_int8_is_close_and_keeps_the_interface(request, images, net, activations):
    model = request.getfixturevalue(net)
    found = Int8({"x": images}, Scheme(activations)).quick(model)
    onnx.checker.check_model(found, full_check=True)
    assert [value.name for value in found.graph.input] == ["x"]
    assert [value.name for value in found.graph.output] == ["y"]
    for value in (*found.graph.input, *found.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert off_by(model, found, images) < (0.05 if activations == "uint8" else 0.12)
    for batch in (1, 5):
        assert outputs(found, images[:batch]).shape == (batch, 5)


def test_every_layer_reads_integers(residual, images):
    found = Int8({"x": images}).quick(residual)
    makers = {name: node for node in found.graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in found.graph.initializer}
    layers = [node for node in found.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 6
    for node in layers:
        assert [makers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        stored = weights[makers[node.input[1]].input[0]]
        assert stored.data_type == TensorProto.INT8
        scales = numpy_helper.to_array(weights[makers[node.input[1]].input[1]])
        assert scales.shape == (stored.dims[0],)  # one a channel


def test_the_processor_computes_what_the_graph_says(build, images):
    """Large weights and activations, whose products some processors do not add up exactly."""
    text = "g (float[N,3,8,8] x) => (float[N,8,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, positive) }"
    found = Int8({"x": np.abs(images)}).quick(build(text, {"positive": (8, 3, 3, 3)}))
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = ort.InferenceSession(found.SerializeToString(), plain, providers=["CPUExecutionProvider"])
    (wanted,) = wanted.run(None, {"x": np.abs(images)})
    np.testing.assert_allclose(outputs(found, np.abs(images)), wanted, atol=0.01 * wanted.max())


@pytest.mark.parametrize(("bits", "most"), [(8, 127), (7, 64)])
def test_weights_fill_the_bits_that_they_may_use(residual, images, bits, most):
    found = Int8({"x": images}, Scheme(bits=bits)).quick(residual)
    stored = [numpy_helper.to_array(t) for t in found.graph.initializer if t.data_type == TensorProto.INT8]
    assert max(np.abs(values.astype(int)).max() for values in stored) == most


@pytest.mark.parametrize(("sums", "bits"), [(1.0, 8), (0.5, 7)])
def test_seven_bits_where_sums_are_cut_off(monkeypatch, sums, bits):
    monkeypatch.setattr(saturation, "outputs_of", lambda *_: {"y": np.full((1, 16, 4, 4), 16 * sums, np.float32)})
    saturation.saturates.cache_clear()
    assert Scheme().bits == bits
    saturation.saturates.cache_clear()


def test_the_original_is_left_alone_and_the_result_repeats(residual, images):
    before = residual.SerializeToString()
    one, two = (Int8({"x": images}).quick(residual).SerializeToString() for _ in range(2))
    assert one == two
    assert residual.SerializeToString() == before


def test_preparing_folds_batch_normalization(normed, images):
    prepared = prepare(normed)
    assert not any(node.op_type == "BatchNormalization" for node in prepared.graph.node)
    assert off_by(normed, prepared, images) < 1e-5


def test_bias_correction_takes_the_mean_error_off(residual, images):
    prepared = prepare(residual)
    # Ranges that cut the upper half off: the mean of what a Relu gives then lies too low.
    ranges = {
        name: (low, 0.5 * high)
        for name, (low, high) in gather_ranges(prepared, ranged_tensors(prepared), {"x": images}).items()
    }
    corrected = correct_biases(prepared, ranges, {"x": images})
    before, after = (mean_errors(prepared, net, ranges, {"x": images}) for net in (prepared, corrected))
    total = [sum(float(np.abs(error).sum()) for error in errors.values()) for errors in (before, after)]
    assert total[1] < 0.5 * total[0]
    plain, repaired = (quantize(net, ranges) for net in (prepared, corrected))
    assert off_by(residual, repaired, images) < off_by(residual, plain, images)


def test_bias_correction_of_a_deep_net(build, images):
    """Each layer is corrected for what those before it have become: all mean errors fall, the last one's too."""
    layers, shapes, tensor = [], {}, "x"
    for place in range(12):
        channels = 3 if place == 0 else 6
        shapes |= {f"w{place}": (6, channels, 3, 3), f"b{place}": (6,)}
        layers.append(f"c{place} = Conv<pads=[1,1,1,1]>({tensor}, w{place}, b{place}) r{place} = Relu(c{place})")
        tensor = f"r{place}"
    text = f"g (float[N,3,8,8] x) => (float[N,6,8,8] y) {{ {' '.join(layers)} y = Identity({tensor}) }}"
    prepared = prepare(build(text, shapes))
    ranges = gather_ranges(prepared, ranged_tensors(prepared), {"x": images})
    corrected = correct_biases(prepared, ranges, {"x": images})
    before, after = (mean_errors(prepared, net, ranges, {"x": images}) for net in (prepared, corrected))
    spreads = [np.abs(before[name]).mean() for name in before]
    assert np.mean([np.abs(after[name]).mean() for name in before]) < 0.3 * np.mean(spreads)


def test_ranges_are_the_extremes(residual, images, run):
    prepared = prepare(residual)
    ranges = gather_ranges(prepared, ["stem", "q"], {"x": images})
    for name, values in zip(("stem", "q"), run(residual, images, "stem", "q"), strict=True):
        assert ranges[name] == pytest.approx((values.min(), values.max()), abs=1e-5)


def test_the_winner_is_offered_with_and_without_correction(residual, images):
    names = [name for name, _ in Int8({"x": images}).variants(residual)]
    assert names == ["quantization to int8", "bias correction"]
    assert Same().variants(residual) == []
    assert Same().quick(residual) is residual


def test_half_is_close_and_keeps_the_interface(residual, images):
    found = to_half(residual)
    onnx.checker.check_model(found)
    assert {value.type.tensor_type.elem_type for value in (*found.graph.input, *found.graph.output)} == {
        TensorProto.FLOAT
    }
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in found.graph.initializer)
    assert off_by(residual, found, images) < 0.02


def test_what_is_quantized_already_is_refused(residual, images):
    quantized = Int8({"x": images}).quick(residual)
    with pytest.raises(InputError, match="quantized already"):
        converter_for("int8", quantized, {"x": images})
    with pytest.raises(ModelError, match="quantized already"):
        prepare(quantized)


@pytest.mark.parametrize(
    ("precision", "provider", "said"), [("int4", "cpu", "fp32, fp16, int8"), ("fp16", "cpu", "gains nothing on cpu")]
)
def test_precisions_that_cannot_be(precision, provider, said):
    with pytest.raises(InputError, match=said):
        check_precision(precision, provider)


def test_precisions_that_can_be():
    for precision, provider in (("int8", "cpu"), ("fp16", "cuda"), ("fp16", ""), ("fp32", "cpu")):
        check_precision(precision, provider)
