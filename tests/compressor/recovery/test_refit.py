"""Refitting against least squares on the data itself."""

import numpy as np
import onnx
import pytest

from ortrim.compressor.recovery.activations import activations
from ortrim.compressor.recovery.consumers import weights_of
from ortrim.compressor.recovery.moments import Moment, gather
from ortrim.compressor.recovery.refit import Refitter, firm, fit
from ortrim.errors import PlanError
from ortrim.graph import analyze, slim, verify

EVERY_ROW = 10**6
NEXT_LAYER = {
    "conv": ("y = Conv<pads=[1,1,1,1]>(h, v, d)", {"v": (5, 8, 3, 3), "d": (5,)}),
    "strided and dilated": ("y = Conv<strides=[2,2], dilations=[2,2]>(h, v, d)", {"v": (5, 8, 3, 3), "d": (5,)}),
    "no bias": ("y = Conv<pads=[1,1,1,1]>(h, v)", {"v": (5, 8, 3, 3)}),
    "grouped": ("y = Conv<group=2>(h, v, d)", {"v": (6, 4, 3, 3), "d": (6,)}),
    "transposed": ("y = ConvTranspose<strides=[2,2]>(h, v, d)", {"v": (8, 5, 3, 3), "d": (5,)}),
    "transposed, grouped": ("y = ConvTranspose<group=2, strides=[2,2]>(h, v, d)", {"v": (8, 3, 2, 2), "d": (6,)}),
    "gemm": ("p = GlobalMaxPool(h) f = Flatten(p) y = Gemm<transB=1, alpha=0.5>(f, v, d)", {"v": (5, 8), "d": (5,)}),
    "matmul": (
        "t = Transpose<perm=[0,2,3,1]>(h) m = MatMul(t, v) y = Add(m, d)",
        {"v": (8, 5), "d": (5,)},
    ),
    "normalized": (
        "c = Conv(h, v) y = BatchNormalization(c, s, o, mean, positive)",
        {"v": (5, 8, 1, 1), "s": (5,), "o": (5,), "mean": (5,), "positive": (5,)},
    ),
}


@pytest.fixture(params=NEXT_LAYER)
def pair(request, build):
    """A layer with eight channels, two of them twice another, and the layer that reads them."""
    text, shapes = NEXT_LAYER[request.param]
    dims = "N,5" if request.param == "gemm" else "N,A,B,C"
    text = f"g (float[N,3,8,8] x) => (float[{dims}] y) {{ a = Conv(x, w, b) h = Relu(a) {text} }}"
    model = build(text, {"w": (8, 3, 3, 3), "b": (8,), **shapes})
    return request.param, model


def doubled(model, pairs):
    """Output channel `b` of the first layer becomes twice channel `a`."""
    out = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in out.graph.initializer:
        if tensor.name in ("w", "b"):
            values = onnx.numpy_helper.to_array(tensor).copy()
            for a, b in pairs:
                values[b] = 2 * values[a]
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return out


def prunable(analysis):
    return next(group for group in analysis.groups if "node0" in group.producers)


def test_what_others_can_replace_costs_nothing(pair, images, run):
    _, model = pair
    model = doubled(model, [(0, 3), (4, 6)])
    analysis = analyze(model)
    group = prunable(analysis)
    # In grouped layers a unit is one channel of every group: those of both pairs lie in units 3 and 2 then.
    units = [3, 6] if group.size == 8 else [0, 1, 3]
    refitter = Refitter(model, analysis, gather(model, analysis, images, rows_per_column=EVERY_ROW), ridge=1e-9)
    removal = {group.name: units}
    small = slim(refitter(removal), removal, analysis=analysis)
    (wanted,), (got,) = run(model, images, "y"), run(small, images, "y")
    if group.size == 8:
        np.testing.assert_allclose(got, wanted, atol=2e-3 * np.abs(wanted).max())
    plain = slim(model, removal, analysis=analysis)
    error, before = (float(((run(net, images, "y")[0] - wanted) ** 2).sum()) for net in (small, plain))
    assert error < (1e-4 if group.size == 8 else 0.9) * before


def test_no_weights_do_better(pair, images, run):
    """The same error as numpy's least squares on the rows themselves."""
    _, model = pair
    analysis = analyze(model)
    moments = gather(model, analysis, images, rows_per_column=EVERY_ROW)
    (node,) = moments.consumers
    consumer, moment = moments.consumers[node], moments[node]
    weight = weights_of(model, [consumer.weight])[consumer.weight]
    groups = consumer.groups if consumer.op == "ConvTranspose" else 1
    width = consumer.shape[consumer.channel_axis] // groups
    gone = consumer.columns_at([g * width + c for g in range(groups) for c in (0, 2)])
    matrix, centred = consumer.matrix(weight), consumer.bias is not None
    slim_matrix, shift = fit(moment, matrix, gone, centred=centred, ridge=1e-9)
    (values,) = zip(*(v.values() for v in activations(model, [consumer.input], {"x": images})), strict=True)
    columns = consumer.reader.columns(np.concatenate(values)).astype(np.float64)
    for g in range(consumer.groups):
        target = matrix[g] @ columns[g]
        kept = np.setdiff1d(np.arange(matrix.shape[2]), gone[g])
        design = columns[g, kept].T
        design = np.column_stack([design, np.ones(len(design))]) if centred else design
        best = np.linalg.lstsq(design, target.T)[0]
        wanted = ((target.T - design @ best) ** 2).sum()
        mine = slim_matrix[g] @ columns[g] + (shift[g][:, None] if centred else 0.0)
        assert ((target - mine) ** 2).sum() == pytest.approx(wanted, rel=1e-3)
        assert not slim_matrix[g][:, gone[g]].any()


def test_a_branch_that_goes_leaves_its_mean(residual, images, run):
    analysis = analyze(residual)
    group = next(g for g in analysis.groups if g.removable)
    refitter = Refitter(residual, analysis, gather(residual, analysis, images, rows_per_column=EVERY_ROW))
    removal = {group.name: range(group.size)}
    full = refitter(removal)
    small = slim(full, removal, analysis=analysis)
    verify(full, small, removal, analysis=analysis)
    assert len(small.graph.node) < len(residual.graph.node)
    branch, before = run(residual, images, "pc", "stem")
    mean = branch.mean(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(run(small, images, "ps")[0], before + mean, atol=1e-4)


def test_a_slim_refitted_model_passes_the_oracle(residual, images):
    analysis = analyze(residual)
    refitter = Refitter(residual, analysis, gather(residual, analysis, images))
    removal = {group.name: range(0, group.size, 2) for group in analysis.groups}
    full = refitter(removal)
    verify(full, slim(full, removal, analysis=analysis), removal, analysis=analysis)


def test_refitting_beats_cutting_and_the_model_is_left_alone(residual, images, run):
    analysis = analyze(residual)
    refitter = Refitter(residual, analysis, gather(residual, analysis, images))
    removal = {group.name: range(4) for group in analysis.groups if group.size == 12}
    before = residual.SerializeToString(deterministic=True)
    nets = [slim(model, removal, analysis=analysis) for model in (residual, refitter(removal))]
    assert residual.SerializeToString(deterministic=True) == before
    (wanted,) = run(residual, images, "y")
    cut, refitted = (float(((run(net, images, "y")[0] - wanted) ** 2).sum()) for net in nets)
    assert refitted < 0.5 * cut


def test_solutions_are_kept_while_there_is_room(residual, images, monkeypatch):
    analysis = analyze(residual)
    moments = gather(residual, analysis, images)
    solved = []

    def counting(moment, matrix, gone, **options):
        solved.append(gone.shape)
        return fit(moment, matrix, gone, **options)

    monkeypatch.setattr("ortrim.compressor.recovery.refit.fit", counting)
    group = next(g for g in analysis.groups if g.removable)
    roomy, cramped = Refitter(residual, analysis, moments), Refitter(residual, analysis, moments, cache=0)
    first, again = roomy({group.name: [0, 1]}), roomy({group.name: [1, 0]})
    assert len(solved) == 1
    assert first.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    for _ in range(2):
        cramped({group.name: [0]})
        cramped({group.name: [1]})
    assert len(solved) == 5


def test_dead_channels_do_no_harm(residual, images, run):
    """Constant inputs leave the moments singular."""
    analysis = analyze(residual)
    moments = gather(residual, analysis, np.zeros_like(images))
    removal = {group.name: [0, 1] for group in analysis.groups}
    small = slim(Refitter(residual, analysis, moments)(removal), removal, analysis=analysis)
    assert np.isfinite(run(small, images, "y")[0]).all()


def test_wide_layers_are_refitted_by_mixing_channels(residual, images, run):
    analysis = analyze(residual)
    moments = gather(residual, analysis, images, max_columns=10)
    assert any(consumer.mixing for consumer in moments.consumers.values())
    removal = {group.name: range(4) for group in analysis.groups if group.size == 12}
    nets = [slim(net, removal, analysis=analysis) for net in (residual, Refitter(residual, analysis, moments)(removal))]
    (wanted,) = run(residual, images, "y")
    cut, refitted = (float(((run(net, images, "y")[0] - wanted) ** 2).sum()) for net in nets)
    assert refitted < 0.7 * cut


def test_half_precision_stays(build, images):
    text = "g (float16[N,3,8,8] x) => (float16[N,5,4,4] y) { a = Conv(x, w) h = Relu(a) y = Conv(h, v) }"
    model = build(text, {"w": (8, 3, 3, 3), "v": (5, 8, 3, 3)}, dtype=np.float16)
    analysis = analyze(model)
    moments = gather(model, analysis, images.astype(np.float16))
    removal = {analysis.groups[0].name: [0, 1]}
    small = slim(Refitter(model, analysis, moments)(removal), removal, analysis=analysis)
    assert {tensor.data_type for tensor in small.graph.initializer} == {onnx.TensorProto.FLOAT16}
    onnx.checker.check_model(small)


def test_impossible_removals_are_refused(residual, images):
    analysis = analyze(residual)
    refitter = Refitter(residual, analysis, gather(residual, analysis, images[:8]))
    with pytest.raises(PlanError, match="no group 'nowhere'"):
        refitter({"nowhere": [0]})
    with pytest.raises(PlanError, match="units 0"):
        refitter({analysis.groups[0].name: [99]})


def test_few_rows_make_the_ridge_firmer():
    """With fewer rows than columns least squares explains everything on the rows it was fitted on, and nothing else."""
    rng = np.random.default_rng(0)
    columns, gone = 64, np.arange(16)[None]
    mixing = rng.standard_normal((columns, columns)) / 8
    weight = rng.standard_normal((1, 8, columns))

    def sample(rows):
        return rng.standard_normal((rows, columns)) @ mixing + 0.3 * rng.standard_normal((rows, columns))

    def error(x, rows):
        """On fresh samples, after a refit that is told that the moments come from so many rows."""
        moment = Moment(x.mean(0)[None], np.cov(x.T, bias=True)[None], rows)
        slim, shift = fit(moment, weight, gone, centred=True)
        return float(((sample(4000) @ (weight - slim)[0].T - shift) ** 2).mean())

    exact = Moment(np.zeros((1, 4)), np.eye(4)[None], 4000)
    assert firm(1e-4, exact) == 1e-4
    few = [firm(1e-4, Moment(np.zeros((1, columns)), np.eye(columns)[None], rows)) for rows in (64, 32, 16)]
    assert few == sorted(few)
    assert few[0] < few[-1]
    draws = [sample(32) for _ in range(5)]
    assert np.mean([error(x, 32) for x in draws]) < np.mean([error(x, 4000) for x in draws])
