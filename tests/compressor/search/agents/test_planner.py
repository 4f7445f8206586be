"""Plans from the table and the hints."""

import itertools

import numpy as np
import pytest

from ortrim.compressor.search.agents.planner import Planner, damage_curve
from ortrim.compressor.search.budget import Budget
from ortrim.compressor.search.space import Choice, Space


def make(problem, **kwargs) -> tuple[Planner, Space]:
    space = problem(**kwargs).space
    return Planner(Budget(space, caution=0.0), np.random.default_rng(0)), space


def summed(planner: Planner, row: tuple[int, ...]) -> float:
    return float(planner.damage[np.arange(len(row)), planner.index(row)].sum())


def test_the_knapsack_is_near_the_best_of_all_plans(problem):
    planner, space = make(problem, groups=4, target=0.6)
    rows = itertools.product(*(choice.widths for choice in space.choices))
    best = min(summed(planner, row) for row in rows if planner.budget.fits(row))
    found = planner.knapsack(np.ones(4))
    assert planner.budget.fits(found)
    assert summed(planner, found) <= 1.2 * best + 1e-9


def test_a_group_that_weighs_more_is_spared(problem):
    planner, _ = make(problem, groups=8)
    plain, weights = planner.knapsack(np.ones(8)), np.ones(8)
    cut = int(np.argmin(np.array(plain) / planner.budget.full))
    weights[cut] = 100.0
    assert planner.knapsack(weights)[cut] > plain[cut]


def test_the_uniform_plan_is_the_widest_that_fits(problem):
    planner, _ = make(problem, groups=12)
    fitting = [planner.budget.fits(row) for row in planner.uniform_rows]
    assert planner.uniform() == planner.uniform_rows[max(i for i, fits in enumerate(fitting) if fits)]
    assert planner.uniform_rows[0] == planner.budget.narrowest
    assert planner.uniform_rows[-1] == planner.budget.full


@pytest.mark.parametrize("kind", ["random", "mutate", "knapsack", "settle"])
def test_plans_fit_and_nothing_can_be_added(problem, kind):
    planner, space = make(problem, groups=10)
    start = planner.uniform()
    for _ in range(10):
        row = {
            "random": planner.random,
            "mutate": lambda: planner.mutate(start, moves=2),
            "knapsack": lambda: planner.knapsack(np.exp(planner.rng.normal(size=10))),
            "settle": lambda: planner.settle(planner.last, planner.rates, np.ones(10, dtype=bool)),
        }[kind]()
        assert planner.budget.fits(row)
        wider = [
            (*row[:g], width, *row[g + 1 :])
            for g, c in enumerate(space.choices)
            for width in c.widths
            if width > row[g]
        ]
        # A mutation leaves the groups that it moved where it put them.
        assert sum(planner.budget.fits(more) for more in wider) == 0 or kind == "mutate"
        if kind == "mutate":
            assert sum(a != b for a, b in zip(row, start, strict=True)) >= 1


def test_damage_comes_from_the_best_source_there_is():
    hinted = Choice("a", 16, (4, 8, 16), {"damage": 0.3})
    assert np.allclose(damage_curve(hinted, {"a": {4: 0.9, 8: 0.2}}), [0.9, 0.2, 0.0])
    assert np.allclose(damage_curve(hinted, {"a": {4: 0.8}}), [0.8, 0.8 * 8 / 12, 0.0])
    assert np.allclose(damage_curve(hinted, {"a": {4: 0.1, 8: 0.2}}), [0.2, 0.2, 0.0])
    assert np.allclose(damage_curve(hinted, {}), [0.3 * 2.25, 0.3, 0.0])
    bare = Choice("b", 16, (8, 16), {})
    assert np.allclose(damage_curve(bare, {}), [1.0, 0.0])
