"""Agents for several targets in one search."""

import numpy as np
import pytest

from ortrim.compressor.search import agents
from ortrim.compressor.search.agents import Agent
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


def test_schedules_go_by_what_each_agent_asked_for(problem):
    """Of 30 evaluations each of three agents has 10: after 15 in all each is half through, not beyond the end."""
    case = problem(6, groups=6)
    front = Front("ortrim", case.space, TARGETS, 30, 0)
    search(front, case, 15)
    for agent in front.agents:
        assert agent.asked == 5
        agent.assistant.predict = lambda plans: (np.zeros(len(plans)), np.ones(len(plans)))
        # Four of ten were told when the fifth was asked for: the share of uncertainty that counts.
        assert agent._value(np.zeros((1, 6), int)) == pytest.approx(-(0.2 + 0.8 * 0.6))


@pytest.mark.parametrize("name", ["ddpg", "sac"])
def test_what_is_learned_from_the_past_fades_with_an_agents_own_plans(name, problem, monkeypatch):
    module = f"ortrim.compressor.search.agents.{name}"
    case = problem(6, groups=4)
    front = Front(name, case.space, TARGETS, 30, 0)
    for agent in front.agents:
        agent._update = agent._batch
    seen = []
    monkeypatch.setattr(f"{module}.draw", lambda batch, own, cut, past, progress, rng: seen.append(progress))
    search(front, case, 15)
    assert max(seen) == 0.5


def test_greedy_spends_its_share_of_the_evaluations(problem):
    case = problem(1, groups=10, bias=1.0)
    front = Front("greedy", case.space, TARGETS, 90, 0)
    spent = []
    while len(spent) < 90:
        plan = front.ask()
        if front.exhausted:
            break
        spent.append(plan)
        front.tell(plan, case.evaluate(plan))
    assert len(spent) > 60


class Moody(Agent):
    """Has nothing new until it is told something."""

    def __init__(self, space):
        self.space, self.asked, self.told = space, 0, 0
        self._exhausted = True

    exhausted = property(lambda self: self._exhausted)

    def ask(self):
        self.asked += 1
        self._exhausted = self.told == 0
        return self.space.narrowest

    def tell(self, plan, outcome):
        self.told += 1


def test_an_agent_that_had_nothing_new_is_asked_again_once_the_table_has_moved(problem):
    case = problem(5, groups=6)
    front = Front("random", case.space, TARGETS, 12, 0)
    front.agents[0] = moody = Moody(case.space)
    plans = [front.ask(), front.ask(), front.ask()]
    # One try, and no second one before anything is told.
    assert moody.asked == 1
    assert case.space.narrowest not in plans
    front.tell(plans[0], case.evaluate(plans[0]))
    assert case.space.narrowest in [front.ask() for _ in range(3)]


@pytest.mark.parametrize("name", ["random", "sac"])
def test_no_plan_is_tried_twice(name, problem):
    case = problem(5, groups=8)
    plans = search(Front(name, case.space, TARGETS, 15, 0), case, 15)
    assert len({tuple(plan.values()) for plan in plans}) == 15
