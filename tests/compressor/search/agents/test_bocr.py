"""Bayesian optimisation with clustering and rollback: the clusters, the rollback, and that the process helps."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("botorch")

from ortrim.compressor.search.agents import bocr
from ortrim.compressor.search.agents.bocr import BOCR, Settings, depthwise
from ortrim.compressor.search.agents.clusters import cluster, densities
from ortrim.compressor.search.agents.front import Front
from ortrim.compressor.search.agents.surrogate import propose
from ortrim.compressor.search.environment import Walk
from ortrim.compressor.search.past import OldTrial, Past, Source, ahead_of
from ortrim.compressor.search.space import Choice, Outcome, Space

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


def watch_shares(agent):
    """The shares that are proposed from now on (walks, groups), before walls and snapping; a growing list."""
    walks, width = [], agent.walk.width

    def watched(prefix, share):
        if not prefix:
            walks.append([])
        walks[-1].append(share)
        return width(prefix, share)

    agent.walk.width = watched
    return walks


def test_groups_of_a_cluster_move_together_until_the_rollback(problem):
    case = problem(2, groups=8)
    case.space = with_norms(case.space, 2)
    agent = BOCR(case.space, 40, 0, replace(SOON, clusters=2, watch=10, latest=10))
    walks = watch_shares(agent)
    told(agent, case, 14)
    assert agent.level == 1
    shares = np.array(walks)
    clustered, alone = shares[:10], shares[10:]
    for members in (np.arange(0, 8, 2), np.arange(1, 8, 2)):
        assert (np.ptp(clustered[:, members], axis=1) == 0.0).all()
        assert (np.ptp(alone[:, members], axis=1) > 0.0).any()
    assert (clustered[:, 0] != clustered[:, 1]).any()
    assert len(np.unique(clustered[:, 0])) > 5


def test_rollback_keeps_every_evaluation_and_bounds_layers_by_the_best_plans(problem):
    case = problem(3, groups=6)
    agent = BOCR(case.space, 30, 0, replace(SOON, clusters=2, best=3))
    rows = []
    while agent.level == 0:
        rows += told(agent, case, 1)
    assert 6 <= len(rows) <= 10
    assert agent.levels[1].tolist() == list(range(6))
    full = np.array(agent.budget.full)
    assert agent._seen() == pytest.approx(np.array(rows) / full)
    best = np.array(rows)[np.argsort(agent.values)[::-1][:3]] / full
    step = 8 / full + 1e-3
    assert agent.low == pytest.approx(np.maximum(best.min(axis=0) - step, 0.0))
    assert agent.high == pytest.approx(np.minimum(best.max(axis=0) + step, 1.0))
    low, high = agent.low.copy(), agent.high.copy()
    walks = watch_shares(agent)
    told(agent, case, 3)
    assert (np.array(walks) >= low - 1e-9).all()
    assert (np.array(walks) <= high + 1e-9).all()


def spaces():
    """Spaces at the edges: a single group, one of a single width, a target that cannot be met, one that is met."""
    table = SimpleNamespace(ratio=lambda widths: 0.1 + 0.9 * sum(widths.values()) / 48)
    wide = tuple(Choice(f"g{i}", 16, (0, 4, 8, 12, 16), {}) for i in range(3))
    one = SimpleNamespace(ratio=lambda widths: 0.1 + 0.9 * widths["g0"] / 16)
    fixed = (*wide[:2], Choice("g2", 16, (16,), {}))
    return [Space(wide[:1], one, 0.9), Space(fixed, table, 0.6), Space(wide, table, 0.05), Space(wide, table, 1.0)]


@pytest.mark.parametrize("space", spaces(), ids=["one group", "one width", "out of reach", "met from the start"])
def test_the_process_runs_on_spaces_at_the_edges_and_gives_plans_that_are_offered(space, monkeypatch):
    points = []
    monkeypatch.setattr(bocr, "propose", lambda *args, **more: points.append(propose(*args, **more)) or points[-1])
    agent = BOCR(space, 6, 0, replace(SOON, initial=2))
    seen = set()
    for _ in range(5):
        plan = agent.ask()
        assert all(plan[choice.group] in choice.widths for choice in space.choices)
        assert agent.exhausted or tuple(plan.values()) not in seen
        seen.add(tuple(plan.values()))
        agent.tell(plan, Outcome(sum(plan.values()) / 48, space.latency.ratio(plan)))
    assert len(points) == 3
    assert np.isfinite(np.concatenate(points)).all()


def test_the_rollback_waits_for_the_agents_own_evaluations(problem):
    """With 20 evaluations each the rollback is due at 10: a front's other targets do not hasten it."""
    case = problem(4, groups=6)
    case.space = with_norms(case.space, 2)
    front = Front("bocr", case.space, (0.85, 0.7, 0.6), 60, 0)
    for _ in range(18):
        front.tell(plan := front.ask(), case.evaluate(plan))
    assert [agent.level for agent in front.agents] == [0, 0, 0]
    for _ in range(12):
        plan = front.agents[0].ask()
        front.tell(plan, Outcome(0.5, 0.5))
    assert front.agents[0].level == 1


def test_nets_of_depthwise_layers_get_as_many_clusters_as_the_paper_gave_mobilenets(problem):
    kinds = {
        "mobilenet": [{"kernel": 1.0, "layers": 3.0}] * 8 + [{"kernel": 3.0, "layers": 3.0}],
        "bottlenecks": [{"kernel": 1.0, "layers": 2.0}, {"kernel": 3.0, "layers": 2.0}] * 4
        + [{"kernel": 1.0, "layers": 9.0}],
        "unknown": [{}] * 9,
    }
    space = with_norms(problem(groups=9).space, 3)
    for kind, facts in kinds.items():
        choices = [replace(choice, features=of) for choice, of in zip(space.choices, facts, strict=True)]
        assert depthwise(choices) == (kind == "mobilenet")
        agent = BOCR(replace(space, choices=tuple(choices)), 40, 0)
        assert agent.levels[0].max() + 1 == (6 if kind == "mobilenet" else 3)


def test_plans_of_an_earlier_search_take_the_place_of_sobol_points(problem):
    old = problem(3, groups=6, target=0.8)
    walk = Walk(BOCR(old.space, 5, 0).budget)
    planner = BOCR(old.space, 5, 0).planner
    trials = []
    for _ in range(12):
        row = planner.random()
        trials.append(OldTrial(row, old.evaluate(old.space.plan(row)), ahead_of(walk, row)))
    source = Source("earlier", "target", 0.8, old.space.choices, old.space.damage, tuple(trials))
    case = problem(3, groups=6, target=0.65)
    agent = BOCR(case.space, 30, 0)
    assert agent.warm(Past((source,)))
    handed = list(agent.handed_down)
    assert len(handed) == 4
    assert [tuple(agent.ask().values()) for _ in range(5)][:4] == handed[::-1]
    assert agent.handed_down == []
    other = problem(3, groups=5)
    assert not BOCR(other.space, 30, 0).warm(Past((source,)))


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
