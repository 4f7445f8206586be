"""sac, rl-pruner and ortrim: each learns in the way that its name stands for."""

import numpy as np
import pytest

from ortrim.compressor.search import agents
from ortrim.compressor.search.agents.assistant import Assistant
from ortrim.compressor.search.agents.rl_pruner import RLPruner
from ortrim.compressor.search.agents.rl_pruner import Settings as PrunerSettings
from ortrim.compressor.search.agents.sac import SAC
from ortrim.compressor.search.agents.sac import Settings as SoftSettings
from ortrim.compressor.search.space import Outcome


def search(agent, problem, episodes):
    trials = []
    for _ in range(episodes):
        plan = agent.ask()
        trials.append((plan, problem.evaluate(plan)))
        agent.tell(*trials[-1])
    return trials


def met(trials, problem):
    return [problem.true_score(plan) for plan, outcome in trials if outcome.ratio <= problem.space.target]


def test_the_soft_actor_learns_what_pays_and_keeps_exploring(problem):
    """One group alone decides the score: the actor must come to keep it wide."""
    case = problem(3, groups=4, bias=1.0)
    agent = SAC(case.space, 80, 0, SoftSettings(actor_rate=1e-3, updates=20))
    for _ in range(80):
        plan = agent.ask()
        agent.tell(plan, Outcome(plan["group1"] / case.space.full["group1"], case.true_ratio(plan)))
    late = [agent.propose() for _ in range(12)]
    assert np.mean([row[1] for row in late]) > 0.8 * case.space.full["group1"]
    assert len(set(late)) > 3


def test_rl_pruner_comes_to_the_target_in_steps(problem):
    case = problem(1, groups=10)
    agent = RLPruner(case.space, 60, 0, PrunerSettings(steps=4))
    ratios = [case.true_ratio(plan) for plan, _ in search(agent, case, 60)]
    assert agent.step == 4
    quarters = [np.median(part) for part in np.array_split(ratios, 4)]
    assert quarters[0] > 0.75 > quarters[1] > quarters[2]
    assert quarters[3] == pytest.approx(case.space.target, abs=0.02)


def test_rl_pruners_policy_moves_to_the_best_sample_within_its_clip(problem):
    case = problem(2, groups=6)
    agent = RLPruner(case.space, 40, 0)
    before = agent.policy.copy()
    agent.tell(agent.ask(), Outcome(0.9, 0.9))
    while agent.done == 0:
        agent.tell(agent.ask(), Outcome(0.9, 0.9))
    moved = agent.policy / before
    assert agent.policy.sum() == pytest.approx(1.0)
    assert not np.allclose(moved, 1.0)
    assert ((moved > 0.75) & (moved < 1.3)).all()
    again = agent.policy.copy()
    while agent.done == 1:
        agent.tell(agent.ask(), Outcome(0.1, 0.9))
    assert np.array_equal(agent.policy, again)  # no better Q, no move


def test_rl_pruner_goes_back_to_the_uniform_policy_on_collapse(problem, monkeypatch):
    case = problem(2, groups=6, bias=1.0)
    agent = RLPruner(case.space, 60, 0, PrunerSettings(steps=4, lookahead=0, epsilon=0.0))
    policies = {}
    execute = agent._execute
    monkeypatch.setattr(agent, "_execute", lambda: (execute(), policies.update({agent.step: agent.policy.copy()})))
    while agent.step < 4:
        plan = agent.ask()
        ratio = case.truth.ratio(plan)
        agent.tell(plan, Outcome(0.9 if ratio > 0.78 else 0.5, ratio))
    assert not np.allclose(policies[3], agent.uniform)
    assert np.array_equal(policies[4], agent.uniform)


def test_the_assistant_learns_what_the_hints_do_not_say():
    """The truth is ten times the hint in one group: the process must rank plans by the truth, and trust must rise."""
    rng = np.random.default_rng(0)
    damage = np.tile(np.linspace(0.1, 0.0, 6) ** 1.5, (8, 1))
    weight = np.ones(8)
    weight[3] = 10.0
    assistant = Assistant(damage)
    plans = rng.integers(0, 6, size=(120, 8))
    losses = (damage[np.arange(8), plans] * weight).sum(axis=1)
    for plan, loss in zip(plans[:60], losses[:60], strict=True):
        assistant.observe(plan, float(loss))
    mean, deviation = assistant.predict(plans[60:])
    hints = damage[np.arange(8), plans[60:]].sum(axis=1)
    assert np.corrcoef(mean, losses[60:])[0, 1] > 0.95 > np.corrcoef(hints, losses[60:])[0, 1]
    assert assistant.trust > 0.8
    assert (deviation > 0).all()


@pytest.mark.slow
def test_the_default_agent_beats_the_knapsack_and_chance(problem):
    gains = []
    for seed in range(2):
        best = {}
        for name in ("ortrim", "knapsack", "random"):
            case = problem(seed)
            best[name] = max(met(search(agents.create(name, case.space, 100, seed), case, 100), case))
        gains.append((best["ortrim"] - best["knapsack"], best["ortrim"] - best["random"]))
    assert np.mean([over for over, _ in gains]) > 0.0
    assert min(over for _, over in gains) > 0.04
