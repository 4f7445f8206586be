"""The DDPG agent: it finds good plans, keeps to the measured budget, and leaves torch as it found it."""

import numpy as np
import pytest
import torch

from ortrim.compressor.search import agents
from ortrim.compressor.search.agents.ddpg import DDPG, Settings
from ortrim.compressor.search.agents.ddpg_guided import GuidedDDPG
from ortrim.compressor.search.agents.learning import Memory
from ortrim.compressor.search.reward import better
from ortrim.compressor.search.space import Outcome

FAST = Settings(updates=1)
"""For tests in which it does not matter how much is learned."""


def search(agent, problem, episodes):
    """(plan, outcome) of every episode."""
    trials = []
    for _ in range(episodes):
        plan = agent.ask()
        trials.append((plan, problem.evaluate(plan)))
        agent.tell(*trials[-1])
    return trials


def best_true_score(trials, problem):
    """What the plan that the search would choose is really worth; 0 if it has none."""
    best = None
    for plan, outcome in trials:
        if better(outcome, best[1] if best else None, problem.space.target):
            best = (plan, outcome)
    return problem.true_score(best[0]) if best[1].ratio <= problem.space.target else 0.0


@pytest.mark.slow
def test_the_guided_one_beats_random_search_at_equal_evaluations(problem):
    gains = []
    for seed in range(2):
        scores = {}
        for name in ("ddpg-guided", "random"):
            case = problem(seed)
            scores[name] = best_true_score(search(agents.create(name, case.space, 100, seed), case, 100), case)
        gains.append(scores["ddpg-guided"] - scores["random"])
    # Seen: 0.08 to 0.2, where the best plans score about 0.9.
    assert min(gains) > 0.04


@pytest.mark.parametrize("bias", [0.8, 1.15], ids=["table too fast", "table too slow"])
def test_plans_meet_the_true_target_once_the_table_is_corrected(problem, bias):
    case = problem(1, bias=bias)
    trials = search(DDPG(case.space, 80, 0, FAST), case, 80)
    ratios = np.array([case.true_ratio(plan) for plan, _ in trials[10:]])
    assert np.mean(ratios <= case.space.target) > 0.75
    assert np.mean(ratios <= case.space.target * 1.02) > 0.95
    # And do not hide far below it: what is left of the budget is accuracy given away.
    assert np.median(ratios) > case.space.target * 0.96


def test_it_needs_no_damage_hints(problem):
    case = problem(2, hints=None)
    trials = search(DDPG(case.space, 60, 0, FAST), case, 60)
    assert best_true_score(trials, case) > case.true_score(trials[0][0])


def test_it_walks_at_random_and_then_asks_the_actor_and_nobody_else(problem, monkeypatch):
    case = problem(groups=6)
    agent = agents.create("ddpg", case.space, 20, 0)
    walked, acted = [], []
    walk, act = agent._random_walk, agent._act
    monkeypatch.setattr(agent, "_random_walk", lambda: walked.append(walk()) or walked[-1])
    monkeypatch.setattr(agent, "_act", lambda more=1.0: acted.append(act(more)) or acted[-1])
    for maker in ("knapsack", "mutate", "random", "uniform"):
        monkeypatch.setattr(agent.planner, maker, lambda *args, **more: pytest.fail("not AMC's"))
    plans = [tuple(plan.values()) for plan, _ in search(agent, case, 20)]
    assert agent.warm_up == 4
    assert set(plans[:4]) <= set(walked)
    assert set(plans[4:]) <= set(acted)


def test_a_plan_that_comes_up_again_is_drawn_anew_under_more_noise(problem, monkeypatch):
    case = problem(groups=6)
    agent = DDPG(case.space, 20, 0, FAST)
    search(agent, case, 20)
    same = agent.known and next(iter(agent.known))
    asked = []
    act = agent._act
    # The actor says the same again and again, until the noise is at twice what it is time for.
    monkeypatch.setattr(agent, "_act", lambda more=1.0: asked.append(more) or (act(more) if more >= 2.0 else same))
    assert tuple(agent.ask().values()) != same
    assert asked[:3] == [1.0, 1.5, 2.0]


def test_the_guided_one_leaves_a_fifth_of_the_later_plans_to_the_actor(problem, monkeypatch):
    case = problem(groups=6)
    agent = GuidedDDPG(case.space, 100, 0)
    monkeypatch.setattr(agent, "_update", lambda: None)
    calls = []
    monkeypatch.setattr(agent, "_act", lambda act=agent._act: calls.append(1) or act())
    first = search(agent, case, 100)[0][0]
    assert tuple(first.values()) == agents.create("ddpg", problem(groups=6).space, 1, 0).planner.knapsack(np.ones(6))
    assert 8 <= len(calls) <= 24


def test_the_actor_learns_what_pays(problem):
    """One group alone decides the score: the actor must come to keep it wide and cut the others."""
    case = problem(3, groups=4, bias=1.0)
    settings = Settings(actor_rate=1e-3, updates=20)
    agent = DDPG(case.space, 80, 0, settings)
    for _ in range(80):
        plan = agent.ask()
        agent.tell(plan, Outcome(plan["group1"] / case.space.full["group1"], case.true_ratio(plan)))
    late = [agent._act()[1] for _ in range(8)]
    assert np.mean(late) > 0.8 * case.space.full["group1"]


def test_torch_threads_and_generator_are_left_alone(problem):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.manual_seed(5)
        state = torch.get_rng_state()
        case = problem(groups=5)
        search(DDPG(case.space, 12, 0, FAST), case, 12)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(before)


def test_the_memory_forgets_the_oldest_episodes():
    memory = Memory(capacity=6, state_size=1)
    for value in range(3):
        states = np.full((4, 1), value, np.float32)
        memory.add(states, np.full(3, 0.5, np.float32), float(value))
    assert sorted(memory.rewards[:, 0]) == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert memory.final[:, 0].sum() == 2.0
    states, _, rewards, _, _ = memory.sample(32, np.random.default_rng(0))
    assert np.array_equal(states, rewards)


def test_truncated_normal_noise_stays_within_the_range(problem):
    agent = DDPG(problem(groups=3).space, 10, 0)
    for mean, sigma in [(0.0, 0.5), (1.0, 0.5), (0.5, 0.02), (1.0, 1e-4)]:
        draws = np.array([agent._truncated_normal(mean, sigma) for _ in range(500)])
        assert draws.min() >= 0.0
        assert draws.max() <= 1.0
        assert np.abs(draws - mean).mean() < sigma
