"""First-order effects against what the outputs really do."""

import numpy as np
import pytest

from ortrim.compressor.recovery.taylor import first_order_effects
from ortrim.graph import analyze, slim

LINEAR = """g (float[N,3,8,8] x) => (float[N,5,4,4] y) {
    a = Conv(x, w, b) n = BatchNormalization(a, s, o, m, positive) h = Relu(n) y = Conv(h, v, d)
}"""
SHAPES = {"w": (8, 3, 3, 3), "b": (8,), "s": (8,), "o": (8,), "m": (8,), "positive": (8,), "v": (5, 8, 3, 3), "d": (5,)}


def squared_changes(model, analysis, group, images, run):
    """Mean square of the outputs' change when a unit alone goes, relative to their spread."""
    (before,) = run(model, images, "y")
    changes = []
    for unit in range(group.size):
        (after,) = run(slim(model, {group.name: (unit,)}, analysis=analysis), images, "y")
        changes.append(np.square(after - before).mean())
    return np.array(changes) / before.var()


def test_where_the_outputs_are_linear_in_a_unit_the_effect_is_the_change(build, images, run):
    model = build(LINEAR, SHAPES)
    analysis = analyze(model)
    (group,) = analysis.groups
    effects = first_order_effects(model, analysis, images, draws=60)
    wanted = squared_changes(model, analysis, group, images, run)
    assert effects[group.name] == pytest.approx(wanted, rel=0.12, abs=1e-3 * float(wanted.max()))


def test_signs_come_from_the_seed(residual, images):
    analysis = analyze(residual)
    one, same, other = (first_order_effects(residual, analysis, images, seed=seed) for seed in (0, 0, 1))
    for name, effects in one.items():
        assert (effects > 0).all()
        assert np.array_equal(effects, same[name])
        assert not np.array_equal(effects, other[name])


def test_every_reader_of_a_residual_stream_counts(residual, images):
    analysis = analyze(residual)
    assert set(first_order_effects(residual, analysis, images, samples=8)) == {group.name for group in analysis.groups}


def test_a_squashed_output_is_looked_at_before_it_is_squashed(build, images):
    """A sigmoid that says 1 to everything has no gradient left."""
    text = (
        "g (float[N,3,8,8] x) => (float[N,5,4,4] y) { a = Conv(x, w, b) h = Relu(a) z = Conv(h, v, d) y = Sigmoid(z) }"
    )
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "v": (5, 8, 3, 3), "d": (5,)}
    plain = build(text.replace("y = Sigmoid(z)", "y = Identity(z)"), shapes)
    model = build(text, shapes)
    for net in (plain, model):
        next(t for t in net.graph.initializer if t.name == "d").raw_data = np.full(5, 100, np.float32).tobytes()
    found = [next(iter(first_order_effects(net, analyze(net), images).values())) for net in (plain, model)]
    assert found[0] == pytest.approx(found[1], rel=1e-3)
