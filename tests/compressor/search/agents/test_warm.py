"""Warm starts: what earlier searches left makes the next one quicker, and never out of bounds."""

from dataclasses import replace

import numpy as np
import pytest

from ortrim.compressor.search import agents
from ortrim.compressor.search.agents.inherited import Inherited, damage_weights, draw, learn_latency
from ortrim.compressor.search.agents.learning import Memory
from ortrim.compressor.search.environment import Walk
from ortrim.compressor.search.past import OldTrial, Past, Source, ahead_of

LEARNERS = ("ddpg", "ortrim", "sac")


def searched(problem, count=60, relation="target", name="random", seed=0):
    """A source: some search of a problem."""
    agent = agents.create(name, problem.space, count, seed)
    walk = Walk(agent.budget)
    trials = []
    for _ in range(count):
        plan = agent.ask()
        outcome = problem.evaluate(plan)
        agent.tell(plan, outcome)
        row = tuple(plan.values())
        trials.append(OldTrial(row, outcome, ahead_of(walk, row)))
    space = problem.space
    return Source("earlier", relation, space.target, space.choices, space.damage, tuple(trials))


def best_after(agent, problem, count):
    for _ in range(count):
        plan = agent.ask()
        agent.tell(plan, problem.evaluate(plan))
    return problem.true_score(problem.space.plan(agent.best[0]))


@pytest.mark.parametrize("name", LEARNERS)
def test_the_same_past_and_seed_give_the_same_plans_within_the_budget(name, problem):
    past = Past((searched(problem(1, groups=8), 20), searched(problem(2, groups=5), 20, "model")))
    plans = []
    for _ in range(2):
        case = problem(1, groups=8, target=0.6)
        agent = agents.create(name, case.space, 16, 0)
        assert agent.warm(past)
        plans.append([])
        for _ in range(16):
            plan = agent.ask()
            assert agent.budget.fits(tuple(plan.values()))
            agent.tell(plan, case.evaluate(plan))
            plans[-1].append(plan)
    assert plans[0] == plans[1]
    cold = agents.create(name, case.space, 16, 0)
    assert [cold.ask() for _ in range(3)] != plans[0][:3]


@pytest.mark.parametrize(
    ("relation", "known"), [("target", True), ("images", True), ("device", False), ("model", False)]
)
def test_the_table_is_corrected_by_what_was_measured_on_the_same_device(relation, known, problem):
    """The table is off by a tenth of the saving: what a plan takes is known before the first candidate."""
    case = problem(1, groups=8, target=0.6)
    agent = agents.create("ortrim", case.space, 40, 0)
    source = searched(problem(1, groups=8, target=0.8), 40, relation)
    agent.warm(Past((source,)))
    plans = [agents.create("random", case.space, 1, seed).ask() for seed in range(12)]
    rows = [case.space.row(plan) for plan in plans]
    errors = [
        agent.budget.correction.corrected(agent.budget.predicted(row)) - case.true_ratio(plan)
        for row, plan in zip(rows, plans, strict=True)
    ]
    plain = [agent.budget.predicted(row) - case.true_ratio(plan) for row, plan in zip(rows, plans, strict=True)]
    assert (abs(np.mean(errors)) < 0.5 * abs(np.mean(plain))) == known


def test_agents_that_learn_nothing_say_so(problem):
    past = Past((searched(problem(1, groups=4), 12),))
    for name in ("random", "uniform", "knapsack", "greedy"):
        assert not agents.create(name, problem(1, groups=4).space, 10, 0).warm(past)


def test_hints_are_corrected_where_groups_cost_more_than_they_promise(problem):
    """In both nets groups of the first half do six times the damage that the hints tell of."""
    cases = []
    for seed in (5, 6):
        case = problem(seed, groups=12, hints=0.01)
        case.damage = case.damage * np.where(np.arange(12) < 6, 6.0, 1.0) * 0.2
        cases.append(case)
    source = searched(cases[0], 150, "model")
    weights = damage_weights(Past((source,)), cases[1].space.choices)
    assert weights[:6].mean() > 1.5 * weights[6:].mean()
    same = damage_weights(Past((source,)), cases[0].space.choices)
    assert same[:6].mean() > 1.5 * same[6:].mean()


def test_batches_come_from_the_past_at_first_and_from_the_search_in_the_end(problem):
    case = problem(1, groups=4)
    inherited = Inherited(Past((searched(case, 12),)), 3.0)
    walk = Walk(agents.create("random", case.space, 5, 0).budget)
    own = Memory(64, walk.state_size)
    row = walk.budget.full
    own.add(walk.states(row), walk.actions(row), 77.0)
    rng = np.random.default_rng(0)
    shares = []
    for progress in (0.0, 0.1, 0.4, 0.5, 1.0):
        rewards = draw(200, own, lambda rewards: rewards, inherited, progress, rng)[2]
        assert len(rewards) == 200
        shares.append(float((rewards != 77.0).mean()))
    assert shares == pytest.approx([1.0, 0.4, 0.1, 0.0, 0.0])


def test_plans_of_another_target_are_brought_to_the_new_one_and_tried_first(problem):
    easy = problem(3, groups=10, target=0.8)
    source = searched(easy, 30)
    hard = problem(3, groups=10, target=0.6)
    agent = agents.create("ortrim", hard.space, 30, 0)
    agent.warm(Past((source,)))
    best = source.trials[int(np.argmax(source.rewards()))].row
    assert not agent.budget.fits(best)
    brought = agent.planner.settle(agent.planner.index(best), agent.planner.rates, np.ones(10, bool))
    first = tuple(agent.ask().values())
    assert agent.budget.fits(first)
    assert first == brought


@pytest.mark.slow
def test_a_past_with_another_target_saves_evaluations(problem):
    gains = []
    for seed in range(3):
        source = searched(problem(seed, target=0.8), 50, name="ortrim", seed=seed)
        scores = []
        for past in (None, Past((source,))):
            case = problem(seed, target=0.65)
            agent = agents.create("ortrim", case.space, 60, 10 + seed)
            if past is not None:
                agent.warm(past)
            scores.append(best_after(agent, case, 12))
        gains.append(scores[1] - scores[0])
    assert np.mean(gains) > 0.0


@pytest.mark.parametrize("name", ["ddpg", "sac"])
def test_screens_know_what_came_of_these_groups_before(name, problem):
    """The hints have one group's damage off by far; outcomes of an earlier search tell."""
    source = searched(problem(7, groups=8, target=0.75, hints=1.5), 60)
    case = problem(7, groups=8, hints=1.5)
    agent = agents.create(name, case.space, 20, 0)
    agent.settings = replace(agent.settings, rehearsal=0)
    agent.warm(Past((source,)))
    assistant = agent.screen.assistant
    assert (assistant.inherited, assistant.observed) == (60, 0)
    rng = np.random.default_rng(0)
    plans = np.stack([rng.integers(0, agent.planner.last + 1) for _ in range(60)])
    losses = [1.0 - case.true_score(case.space.plan(agent.planner.row(plan))) for plan in plans]
    hints = assistant.damage[np.arange(8), plans].sum(axis=1)
    assert np.corrcoef(assistant.predict(plans)[0], losses)[0, 1] > np.corrcoef(hints, losses)[0, 1] + 0.01
    other = replace(searched(problem(4, groups=6), 20, "model"))
    agent = agents.create(name, case.space, 20, 0)
    agent.settings = replace(agent.settings, rehearsal=0)
    agent.warm(Past((other,)))
    assert agent.screen.assistant.inherited == 0


def test_a_past_of_other_groups_alone_hands_no_plans_down(problem):
    other = replace(searched(problem(4, groups=6), 20, "model"), label="another net")
    agent = agents.create("ortrim", problem(3, groups=10).space, 30, 0)
    plain = agent.planner.knapsack(np.ones(10))
    agent.warm(Past((other,)))
    assert agent.first == [plain, agent.planner.knapsack(np.ones(10))]
    assert agent.assistant.observed == 0


def test_what_a_plain_search_begins_with_is_asked_for_beside_what_is_handed_down(problem):
    case = problem(3, groups=10)
    past = Past((searched(case, 20, "target"),))
    plain = agents.create("ortrim", case.space, 30, 0)
    learn_latency(past, plain.budget)
    agent = agents.create("ortrim", case.space, 30, 0)
    agent.warm(past)
    asked = []
    for _ in range(6):
        asked.append(agent.ask())
        agent.tell(asked[-1], case.evaluate(asked[-1]))
    assert case.space.plan(plain.planner.knapsack(np.ones(10))) in asked
