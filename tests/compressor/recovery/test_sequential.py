"""Layer by layer, with inputs from the slim net and targets from the original."""

import numpy as np
import pytest
from onnx import numpy_helper

from ortrim.compressor.recovery.consumers import find_consumers
from ortrim.compressor.recovery.importance import rank
from ortrim.compressor.recovery.layer import Product
from ortrim.compressor.recovery.moments import gather
from ortrim.compressor.recovery.refit import Refitter, with_weights
from ortrim.compressor.recovery.sequential import SequentialRefitter, refit_sequentially
from ortrim.compressor.recovery.tails import Tails
from ortrim.errors import DataError
from ortrim.graph import analyze, slim

NORMED = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
    a = Conv<pads=[1,1,1,1]>(x, w) an = BatchNormalization(a, s1, o1, m1, positive1) h = Relu(an)
    c = Conv<pads=[1,1,1,1]>(h, v) cn = BatchNormalization(c, s2, o2, m2, positive2)
    t = Conv(x, u, ub) sum = Add(t, cn) r = Relu(sum) y = Conv(r, z, zb)
}"""
NORMED_SHAPES = {"w": (12, 3, 3, 3), "v": (6, 12, 3, 3), "u": (6, 3, 1, 1), "ub": (6,), "z": (4, 6, 1, 1), "zb": (4,)}
NORMED_SHAPES |= {f"{n}1": (12,) for n in ("s", "o", "m", "positive")}
NORMED_SHAPES |= {f"{n}2": (6,) for n in ("s", "o", "m", "positive")}


def pruned(model, images, widths):
    """Refitted candidate of a model; `widths` by the group's size."""
    analysis = analyze(model)
    moments = gather(model, analysis, images)
    wanted = {group.name: widths[group.size] for group in analysis.groups if group.size in widths}
    removal = rank(model, analysis, "refit", moments).removal(wanted)
    return slim(Refitter(model, analysis, moments)(removal), removal, analysis=analysis), removal, analysis


def error(model, net, images, run):
    (wanted,), (got,) = run(model, images, "y"), run(net, images, "y")
    return float(((got - wanted) ** 2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum())


def weights(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture(scope="module")
def candidate(residual, images):
    return pruned(residual, images[:64], {12: 5})


def test_later_layers_repair_earlier_damage(residual, candidate, images, run):
    small, removal, analysis = candidate
    net = refit_sequentially(residual, small, removal, images[:64], analysis=analysis)
    assert error(residual, net, images[64:], run) < 0.8 * error(residual, small, images[64:], run)


def test_also_where_the_residual_stream_lost_channels(residual, images, run):
    small, removal, analysis = pruned(residual, images[:64], {12: 4, 8: 6})
    net = refit_sequentially(residual, small, removal, images[:64], analysis=analysis)
    assert error(residual, net, images[64:], run) < 0.9 * error(residual, small, images[64:], run)


def test_a_branch_that_is_gone_is_made_up_for(residual, images, run):
    analysis = analyze(residual)
    first = next(group for group in analysis.groups if group.removable)
    removal = {first.name: range(first.size)}
    refitter = Refitter(residual, analysis, gather(residual, analysis, images[:64]))
    small = slim(refitter(removal), removal, analysis=analysis)
    net = refit_sequentially(residual, small, removal, images[:64], analysis=analysis)
    assert error(residual, net, images[64:], run) < 0.8 * error(residual, small, images[64:], run)


def damaged(model, *names):
    """The model with these initializers halved: what nothing was taken from can be restored completely."""
    return with_weights(model, {name: array / 2 for name, array in weights(model).items() if name in names})


def test_batch_normalization_on_the_way(build, images, run):
    model = build(NORMED, NORMED_SHAPES)
    small = damaged(model, "w", "v", "m2")
    net = refit_sequentially(model, small, {}, images[:64], analysis=analyze(model), ridges=(1e-6,))
    before, after = error(model, small, images[64:], run), error(model, net, images[64:], run)
    assert after < 0.02 * before


def test_batch_normalization_before_a_layer(build, images, run):
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv(x, w, b) n = BatchNormalization(a, s, o, m, positive) h = Relu(n) c = Conv(h, v, d) y = Add(a, c)
    }"""
    shapes = {"w": (4, 3, 1, 1), "b": (4,), "v": (4, 4, 1, 1), "d": (4,)} | dict.fromkeys(
        ("s", "o", "m", "positive"), (4,)
    )
    model = build(text, shapes)
    small = damaged(model, "s", "o")
    steps = []
    net = refit_sequentially(
        model, small, {}, images[:64], analysis=analyze(model), ridges=(1e-6,), on_layer=steps.append
    )
    assert [step.node for step in steps] == ["node1", "node3"]
    assert error(model, net, images[64:], run) < 0.02 * error(model, small, images[64:], run)


def test_an_unpruned_model_stays_as_it_is(residual, images):
    analysis = analyze(residual)
    net = refit_sequentially(residual, residual, {}, images, analysis=analysis)
    before, after = weights(residual), weights(net)
    assert all(np.allclose(after[name], before[name], atol=1e-4) for name in before)


def test_the_arguments_are_left_alone(residual, candidate, images):
    small, removal, analysis = candidate
    before = small.SerializeToString(deterministic=True)
    refit_sequentially(residual, small, removal, images[:16], analysis=analysis)
    assert small.SerializeToString(deterministic=True) == before


def test_one_record_serves_many_candidates(residual, candidate, images):
    small, removal, analysis = candidate
    refitter = SequentialRefitter(residual, analysis, images)
    first, again = refitter(small, removal), refitter(small, removal)
    alone = refit_sequentially(residual, small, removal, images, analysis=analysis)
    assert weights(first).keys() == weights(alone).keys()
    for name, array in weights(first).items():
        np.testing.assert_array_equal(array, weights(again)[name])
        np.testing.assert_array_equal(array, weights(alone)[name])


def test_steps_are_reported_and_never_up(residual, candidate, images):
    small, removal, analysis = candidate
    steps = []
    refit_sequentially(residual, small, removal, images, analysis=analysis, on_layer=steps.append)
    nodes = list(find_consumers(small))
    assert [step.node for step in steps] == nodes[1:]  # nothing was taken from the first
    assert all(step.after <= step.before for step in steps)
    assert any(step.after < 0.95 * step.before for step in steps)


def test_single_images_at_a_fixed_batch(build, images, run):
    text = """g (float[1,3,8,8] x) => (float[1,4,4,4] y) {
        a = Conv(x, w, b) h = Relu(a) c = Conv(h, v, d) t = Clip(c, low, high) y = Conv<group=2>(t, u)
    }"""
    shapes = {"w": (12, 3, 3, 3), "b": (12,), "v": (6, 12, 1, 1), "d": (6,), "u": (4, 3, 3, 3)}
    model = build(text, {**shapes, "low": 0.0, "high": 2.0})
    small = damaged(model, "w", "b", "v", "u")
    net = refit_sequentially(model, small, {}, images[:64], analysis=analyze(model), ridges=(1e-6,))

    def total(candidate):
        singles = [images[place : place + 1] for place in range(64, 96)]
        return sum(((run(candidate, x, "y")[0] - run(model, x, "y")[0]) ** 2).sum() for x in singles)

    assert total(net) < 0.02 * total(small)


def test_a_relu_frees_what_lies_below_it(residual):
    tails = Tails(residual)
    by_output = {consumer.output: tails.of(consumer) for consumer in find_consumers(residual).values()}
    assert (by_output["pa"].output, by_output["pa"].low, by_output["pa"].high) == ("pa", 0.0, None)
    assert (by_output["pc"].output, by_output["pc"].low) == ("ps", 0.0)
    assert (by_output["y"].output, by_output["y"].low) == ("y", None)


def test_half_precision_stays(build, images, run):
    text = (
        "g (float16[N,3,8,8] x) => (float16[N,5,6,6] y) { a = Conv(x, w) h = Relu(a) y = Conv<pads=[1,1,1,1]>(h, v) }"
    )
    model = build(text, {"w": (8, 3, 3, 3), "v": (5, 8, 3, 3)}, dtype=np.float16)
    small, halves = damaged(model, "v"), images.astype(np.float16)
    net = refit_sequentially(model, small, {}, halves, analysis=analyze(model), ridges=(1e-6,), rows_per_column=8)
    assert all(array.dtype == np.float16 for array in weights(net).values())
    np.testing.assert_allclose(run(net, halves, "y")[0], run(model, halves, "y")[0], atol=0.05)


TRANSPOSED = """g (float[N,3,8,8] x) => (float[N,6,17,17] y) {
    a = Conv<pads=[1,1,1,1]>(x, w, b) an = BatchNormalization(a, s, o, m, positive) h = Relu(an)
    y = ConvTranspose<strides=[2,2], group=2>(h, v, d)
}"""
TRANSPOSED_SHAPES = {"w": (8, 3, 3, 3), "b": (8,), "v": (8, 3, 3, 3), "d": (6,)}
TRANSPOSED_SHAPES |= dict.fromkeys(("s", "o", "m", "positive"), (8,))


@pytest.mark.parametrize("kind", ["residual", "normed", "transposed"])
def test_a_layer_as_a_matrix_gives_what_running_it_gives(residual, build, images, monkeypatch, kind):
    models = {
        "residual": (residual, ("pw", "pd", "qw", "qv")),
        "normed": (build(NORMED, NORMED_SHAPES), ("w", "v", "m2")),
        "transposed": (build(TRANSPOSED, TRANSPOSED_SHAPES), ("w", "b", "v", "d")),
    }
    model, broken = models[kind]
    small, analysis = damaged(model, *broken), analyze(model)
    quick = refit_sequentially(model, small, {}, images, analysis=analysis)
    monkeypatch.setattr(Product, "of", lambda consumer, tape: None)
    run_whole = refit_sequentially(model, small, {}, images, analysis=analysis)
    assert weights(quick).keys() == weights(run_whole).keys()
    for name, array in weights(run_whole).items():
        np.testing.assert_allclose(weights(quick)[name], array, rtol=1e-3, atol=1e-4)
    assert any(not np.allclose(array, weights(small)[name]) for name, array in weights(quick).items())


def test_too_few_samples_are_refused(build, images):
    text = "g (float[4,3,8,8] x) => (float[4,5,4,4] y) { a = Conv(x, w) h = Relu(a) y = Conv(h, v) }"
    model = build(text, {"w": (6, 3, 3, 3), "v": (5, 6, 3, 3)})
    with pytest.raises(DataError, match="batches of 4"):
        SequentialRefitter(model, analyze(model), images[:2])
