"""Bayesian optimisation with clustering and rollback: the clusters, the rollback, and that the process helps."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("botorch")

from ortrim.compressor.search.agents.bocr import BOCR, Settings
from ortrim.compressor.search.agents.clusters import cluster, densities
from ortrim.compressor.search.agents.surrogate import propose
from ortrim.compressor.search.space import Outcome, Space

SOON = Settings(initial=4, watch=6, latest=10, patience=3, whole=1)


def with_norms(space: Space, kinds: int) -> Space:
    """The space with channel scores of so many kinds, wider from kind to kind, dealt out in turn."""
    rng = np.random.default_rng(0)
    choices = [
        replace(choice, norms=tuple(5.0 + (0.2, 1.5, 6.0)[i % kinds] * rng.normal(size=choice.size)))
        for i, choice in enumerate(space.choices)
    ]
    return replace(space, choices=tuple(choices))


def told(agent, problem, episodes):
    rows = []
    for _ in range(episodes):
        plan = agent.ask()
        rows.append(tuple(plan.values()))
        agent.tell(plan, problem.evaluate(plan))
    return rows


def test_groups_whose_scores_are_spread_alike_are_one_cluster(problem):
    choices = with_norms(problem(groups=9).space, 3).choices
    numbers = cluster(choices, 3)
    assert len(set(numbers)) == 3
    assert all(len({int(numbers[i]) for i in range(kind, 9, 3)}) == 1 for kind in range(3))


def test_clusters_do_not_depend_on_a_layers_level(problem):
    """The median is taken off: a layer with larger weights everywhere is no other kind of layer."""
    choices = with_norms(problem(groups=6).space, 2).choices
    shifted = [replace(choice, norms=tuple(np.array(choice.norms) + 3.0 * (i % 3))) for i, choice in enumerate(choices)]
    assert np.array_equal(cluster(choices, 2), cluster(shifted, 2))


def test_curves_are_densities_whatever_the_scores():
    curves = densities([[1.0, 2.0, 4.0], [7.0], [], [3.0] * 50])
    areas = np.trapezoid(curves, np.linspace(-15, 15, 1000), axis=1)
    assert areas == pytest.approx(np.ones(4), abs=0.02)


def test_groups_of_a_cluster_move_together_until_the_rollback(problem):
    case = problem(2, groups=8)
    case.space = with_norms(case.space, 2)
    agent = BOCR(case.space, 40, 0, replace(SOON, clusters=2, latest=30, watch=30))
    numbers = agent.levels[0]
    seen = []
    for _ in range(12):
        agent.tell(plan := agent.ask(), case.evaluate(plan))
        seen.append(agent._seen()[-1])
    assert agent.level == 0
    assert agent._seen().shape == (12, 2)
    shares = np.array([plan[choice.group] / choice.size for choice in case.space.choices])
    assert seen[-1] == pytest.approx([shares[numbers == d].mean() for d in range(2)])


def test_rollback_keeps_every_evaluation_and_bounds_layers_by_the_best_plans(problem):
    case = problem(3, groups=6)
    agent = BOCR(case.space, 30, 0, replace(SOON, clusters=2, best=3))
    rows = told(agent, case, 10)
    assert agent.level == 1
    assert agent.levels[1].tolist() == list(range(6))
    full = np.array(agent.budget.full)
    assert agent._seen() == pytest.approx(np.array(rows) / full)
    best = np.array(rows)[np.argsort(agent.values)[::-1][:3]] / full
    assert (agent.low <= best.min(axis=0)).all()
    assert (agent.high >= best.max(axis=0)).all()
    assert (agent.high - agent.low < 1.0).any()
    for row in told(agent, case, 3):
        step = 0.5 * 8 / full  # a proposal is snapped to the nearest width, at most half a step away
        walls = [agent.budget.bounds(row[:g])[1] / full[g] for g in range(6)]
        assert (np.array(row) / full <= np.maximum(agent.high + step, 0.0) + 1e-9).all() or min(walls) < 1.0


def test_it_rolls_back_sooner_at_a_standstill_and_step_by_step_if_asked(problem):
    case = problem(1, groups=12)
    case.space = with_norms(case.space, 3)
    agent = BOCR(case.space, 60, 0, replace(SOON, clusters=2, between=(5,), watch=5, latest=20, patience=2))
    levels = []
    for _ in range(40):
        agent.tell(agent.ask(), Outcome(0.5, 0.5))
        levels.append(agent.level)
    assert levels[3] == 0
    assert levels[5] == 1
    assert levels[-1] == 2
    assert [numbers.max() + 1 for numbers in agent.levels] == [2, 5, 12]


def test_the_process_finds_the_top_of_a_smooth_function():
    def height(points):
        return -((points[:, 0] - 0.3) ** 2) - 2.0 * (points[:, 1] - 0.8) ** 2

    points = np.random.default_rng(1).random((6, 2))
    for n in range(12):
        points = np.vstack([points, propose(points, height(points), jitter=0.0, seed=n)])
    assert np.abs(points[np.argmax(height(points))] - [0.3, 0.8]).max() < 0.05


def test_without_botorch_the_one_line_says_what_to_install(tmp_path):
    script = (
        "import sys; sys.modules['botorch'] = None\n"
        "from ortrim.compressor.search import agents\n"
        "from ortrim.compressor.search.space import Choice, Space\n"
        "class Half:\n    def ratio(self, widths): return 0.5\n"
        "agents.create('bocr', Space((Choice('g', 4, (2, 4), {}),), Half(), 0.5), 5, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "pip install 'ortrim[bo]'" in done.stderr.splitlines()[-1]
    assert "InputError" in done.stderr.splitlines()[-1]
