"""Agents for several targets in one search."""

import pytest

from ortrim.compressor.search import agents
from ortrim.compressor.search.agents.front import Front
from ortrim.compressor.search.space import Outcome

TARGETS = (0.85, 0.7, 0.6)


def search(front, problem, episodes):
    plans = []
    for _ in range(episodes):
        plans.append(front.ask())
        front.tell(plans[-1], problem.evaluate(plans[-1]))
    return plans


def test_targets_take_turns_and_each_is_met(problem):
    case = problem(1, groups=8, bias=1.0)
    front = Front("knapsack", case.space, TARGETS, 30, 0)
    plans = search(front, case, 30)
    ratios = [case.true_ratio(plan) for plan in plans]
    for number, target in enumerate(TARGETS):
        own = ratios[number::3][2:]
        assert max(own) <= target * 1.02
        assert min(own) > target * 0.85
    assert [agent.space.target for agent in front.agents] == list(TARGETS)


def test_every_agent_learns_from_every_outcome(problem):
    case = problem(2, groups=6)
    front = Front("ortrim", case.space, TARGETS, 12, 0)
    plan = front.ask()
    front.tell(plan, Outcome(0.9, 0.5))
    assert all(agent.best[0] == tuple(plan.values()) for agent in front.agents)


def test_a_front_is_resumed_like_any_agent(problem):
    case = problem(3, groups=6)
    outcome = lambda plan: Outcome(sum(plan.values()) / 400, case.truth.ratio(plan))  # noqa: E731
    straight, plans = Front("ortrim", case.space, TARGETS, 18, 0), []
    for _ in range(18):
        plans.append(straight.ask())
        straight.tell(plans[-1], outcome(plans[-1]))
    resumed = Front("ortrim", case.space, TARGETS, 18, 0)
    assert agents.replay(resumed, [(plan, outcome(plan)) for plan in plans[:10]]).foreign == 0
    for plan in plans[10:]:
        assert resumed.ask() == plan
        resumed.tell(plan, outcome(plan))


def test_it_is_exhausted_when_all_are(problem):
    case = problem(4, groups=3)
    front = Front("uniform", case.space, (0.8, 0.7), 60, 0)
    for _ in range(60):
        if front.exhausted:
            break
        plan = front.ask()
        front.tell(plan, Outcome(0.5, case.truth.ratio(plan)))
    assert front.exhausted
    assert front.ask().keys() == case.space.full.keys()


@pytest.mark.parametrize("name", ["random", "sac"])
def test_no_plan_is_tried_twice(name, problem):
    case = problem(5, groups=8)
    plans = search(Front(name, case.space, TARGETS, 15, 0), case, 15)
    assert len({tuple(plan.values()) for plan in plans}) == 15
