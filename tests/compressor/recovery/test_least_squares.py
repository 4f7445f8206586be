"""The fit of one layer: exact where there is an answer, and no further than held-out rows bear it out."""

from types import SimpleNamespace

import numpy as np
import pytest

from ortrim.compressor.recovery.layer import Rows
from ortrim.compressor.recovery.least_squares import RIDGES, fit_layer

COLUMNS = 24


def layer(low=None, high=None, bias=True):
    return SimpleNamespace(
        tail=SimpleNamespace(low=low, high=high), scale=None, consumer=SimpleNamespace(bias=object() if bias else None)
    )


def rows(count, noise, seed, low=None, high=None):
    """Of a layer whose matrix lacks `WANTED` and a shift of 0.3; the goal is what a Relu or Clip lets through."""
    rng = np.random.default_rng(seed)
    wanted = np.random.default_rng(0).standard_normal((1, 3, COLUMNS)) / COLUMNS**0.5
    columns = rng.standard_normal((1, COLUMNS, count))
    now = rng.standard_normal((1, 3, count))
    goal = now + wanted @ columns + 0.3 + noise * rng.standard_normal(now.shape)
    return Rows(*(array.astype(np.float32) for array in (columns, now, np.clip(goal, low, high)))), wanted


def error(fitted, wanted):
    return float(np.square(fitted.change - wanted).mean() / np.square(wanted).mean())


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_there_is_found(bias):
    (fit, wanted), (test, _) = rows(600, 0.0, 1), rows(80, 0.0, 2)
    fitted = fit_layer(layer(bias=bias), fit, test, (1e-6,), 1)
    assert error(fitted, wanted) < (1e-6 if bias else 0.05)
    assert fitted.before > 0.3
    assert fitted.after < (1e-6 if bias else 0.1)
    np.testing.assert_allclose(fitted.shift, 0.3 if bias else 0.0, atol=1e-3)


def test_rows_that_a_relu_cuts_off_say_nothing():
    (fit, wanted), (test, _) = rows(2000, 0.0, 1, low=0), rows(200, 0.0, 2, low=0)
    once, often = (fit_layer(layer(low=0.0), fit, test, (1e-6,), rounds) for rounds in (1, 30))
    assert error(often, wanted) < 0.2 * error(once, wanted)
    assert often.after < 0.2 * once.after


def test_a_firm_ridge_is_taken_where_rows_are_few_and_noisy():
    (fit, wanted), (test, _) = rows(30, 3.0, 1), rows(400, 3.0, 2)
    found = {ridge: fit_layer(layer(), fit, test, (ridge,), 1) for ridge in RIDGES}
    chosen = fit_layer(layer(), fit, test, RIDGES, 1)
    assert chosen.after == min(one.after for one in found.values())
    assert chosen.after < found[min(RIDGES)].after
    assert error(chosen, wanted) < 0.5 * error(found[min(RIDGES)], wanted)


def test_a_weak_one_where_rows_are_many_and_clean():
    (fit, _), (test, _) = rows(600, 0.01, 1), rows(80, 0.01, 2)
    chosen, weak = (fit_layer(layer(), fit, test, ridges, 1) for ridges in (RIDGES, RIDGES[:1]))
    np.testing.assert_array_equal(chosen.change, weak.change)


def test_held_out_rows_decide_how_far_to_go():
    """The fit's rows ask for twice of what the others do."""
    (fit, _), (test, _) = rows(600, 0.0, 1), rows(80, 0.0, 2)
    double = Rows(fit.columns, fit.slim, fit.slim + 2 * (fit.goal - fit.slim))
    whole, half = fit_layer(layer(), fit, test, (1e-6,), 1), fit_layer(layer(), double, test, (1e-6,), 1)
    np.testing.assert_allclose(half.change, whole.change, atol=1e-3)
