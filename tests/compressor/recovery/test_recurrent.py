"""Nets with an LSTM: it is ranked by the weights and not refitted itself; what stands around it is."""

import pytest

from ortrim.compressor.recovery.consumers import weights_of
from ortrim.compressor.recovery.importance import rank
from ortrim.compressor.recovery.moments import gather
from ortrim.compressor.recovery.refit import Refitter, with_weights
from ortrim.compressor.recovery.sequential import refit_sequentially
from ortrim.graph import analyze, slim

# Columns of the feature maps are the steps, so that samples are counted on axis 1 from there on.
TEXT = """g (float[N,3,8,8] x) => (float[N,5] y) {
    three = Constant<value = int64[3] {0, 0, -1}>() one = Constant<value = int64[1] {1}>()
    a = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(a)
    t = Transpose<perm=[3,0,1,2]>(r) steps = Reshape(t, three)
    h = LSTM<hidden_size=12>(steps, lw, lr, lb) s = Squeeze(h, one)
    c = MatMul(s, v) d = Add(c, e) f = Relu(d) z = MatMul(f, u)
    y = ReduceMean<axes=[0], keepdims=0>(z)
}"""
SHAPES = {"w": (4, 3, 3, 3), "b": (4,), "lw": (1, 48, 32), "lr": (1, 48, 12), "lb": (1, 96)}
SHAPES |= {"v": (12, 10), "e": (10,), "u": (10, 5)}


@pytest.fixture(scope="module")
def recurrent(build):
    return build(TEXT, SHAPES)


def test_the_ranking_does_without_the_lstm(recurrent, images):
    """The convolution is read by the LSTM alone, the LSTM by itself and a matrix product that can be refitted."""
    analysis = analyze(recurrent)
    conv, lstm, inner = analysis.groups
    operators = {node.name: node.op_type for node in recurrent.graph.node}
    assert [operators[name] for name in (*conv.consumers, *lstm.consumers)] == ["LSTM", "LSTM", "MatMul"]
    ranking = rank(recurrent, analysis, "refit", gather(recurrent, analysis, images))
    assert ranking.order[conv.name] == rank(recurrent, analysis, "l2").order[conv.name]
    assert set(ranking.damage) == {lstm.name, inner.name}


@pytest.mark.parametrize("width", [8, 6])
def test_what_reads_the_lstm_repairs_the_damage(build, images, run, width):
    """Also where there are as many steps as samples in the last batch of 72."""
    recurrent = build(TEXT.replace("3,8,8] x", f"3,8,{width}] x"), SHAPES)
    images = images[:, :, :, :width]
    analysis = analyze(recurrent)
    moments = gather(recurrent, analysis, images[:72])
    removal = rank(recurrent, analysis, "refit", moments).removal({group.name: 3 for group in analysis.groups[:2]})
    plain = slim(recurrent, removal, analysis=analysis)
    small = slim(Refitter(recurrent, analysis, moments)(removal), removal, analysis=analysis)
    net = refit_sequentially(recurrent, small, removal, images[:72], analysis=analysis)
    wanted, before, after = (run(model, images[72:], "y")[0] for model in (recurrent, plain, net))
    assert ((after - wanted) ** 2).sum() < 0.5 * ((before - wanted) ** 2).sum()


def test_a_batch_of_its_own_and_as_many_steps(build, images):
    """Of several axes of that size the first one is taken for that of the samples, which does no harm."""
    for batch in (4, 6):
        model = build(TEXT.replace("N,3,8,8] x", f"{batch},3,8,6] x").replace("N,5] y", f"{batch},5] y"), SHAPES)
        small = with_weights(model, {"v": 0.5 * weights_of(model, ["v"])["v"]})
        steps = []
        refit_sequentially(
            model, small, {}, images[:72, :, :, :6], analysis=analyze(model), ridges=(1e-6,), on_layer=steps.append
        )
        assert {node.name: node.op_type for node in model.graph.node}[steps[0].node] == "MatMul"
        assert steps[0].after < 0.1 * steps[0].before
