"""sac, rl-pruner and ortrim: each learns in the way that its name stands for."""

import numpy as np
import pytest

from ortrim.compressor.search import agents
from ortrim.compressor.search.agents.assistant import Assistant
from ortrim.compressor.search.agents.ortrim import FLOOR, FOUND_RATE
from ortrim.compressor.search.agents.rl_pruner import RLPruner, Sample
from ortrim.compressor.search.agents.rl_pruner import Settings as PrunerSettings
from ortrim.compressor.search.agents.sac import SAC
from ortrim.compressor.search.agents.sac import Settings as SoftSettings
from ortrim.compressor.search.space import Choice, Outcome, Space


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
    # Plans go down a whole width at a time, and stop where they first fit.
    assert 0.94 * case.space.target < quarters[3] < 1.01 * case.space.target


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


def test_rl_pruner_counts_a_sample_once_and_a_plan_once_a_step(problem, monkeypatch):
    """Few plans, so that distributions come to the same ones again and again and plans have to be changed."""
    case = problem(2, groups=3)
    agent = RLPruner(case.space, 60, 0, PrunerSettings(steps=3))
    samples, plans, varied = [], [], []
    remember, vary = agent._remember, agent.vary
    monkeypatch.setattr(
        agent,
        "_remember",
        lambda sample: (samples.append(sample), plans.append((agent.step, sample.row)), remember(sample)),
    )
    monkeypatch.setattr(agent, "vary", lambda row: varied.append(row) or vary(row))
    for _ in range(60):
        plan = agent.ask()
        if agent.exhausted:
            break
        agent.tell(plan, case.evaluate(plan))
    assert varied
    assert agent.step == 3
    assert len(set(map(id, samples))) == len(samples)
    assert len(set(plans)) == len(plans)
    for sample in samples:
        assert sample.score == agent.outcomes[sample.row].score


def test_rl_pruner_takes_the_best_of_several_further_steps(problem):
    assert Sample(np.ones(1), score=0.5).q(0.9) == 0.5
    first = Sample(np.ones(1), score=0.5, after=[Sample(np.ones(1), score=0.2), Sample(np.ones(1), score=0.4)])
    assert first.q(0.9) == pytest.approx(0.5 + 0.9 * 0.4)

    case = problem(2, groups=10)
    agent = RLPruner(case.space, 60, 0, PrunerSettings(steps=3, branches=3))
    plan = agent.ask()
    (sample,) = agent.waiting.values()
    agent.tell(plan, case.evaluate(plan))
    assert sample.row == tuple(plan.values())
    assert len(sample.after) == 3
    drawn = [sample.distribution, *(further.distribution for further in sample.after)]
    assert len({tuple(distribution) for distribution in drawn}) == 4
    while not sample.known:
        further = agent.ask()
        assert all(a <= b for a, b in zip(further.values(), plan.values(), strict=True))
        agent.tell(further, case.evaluate(further))
    assert agent.buffer[0][0] == pytest.approx(sample.score + 0.9 * max(further.score for further in sample.after))


def test_ortrims_policy_imitates_what_the_search_finds(problem, monkeypatch):
    case = problem(3, groups=6)
    agent = agents.create("ortrim", case.space, 40, 0)
    search(agent, case, 8)
    found = agent.planner.random()
    at = agent.planner.index(found)
    before = agent.policy[np.arange(6), at].copy()
    monkeypatch.setattr(agent, "_trusted", lambda: True)
    monkeypatch.setattr(agent, "_search", lambda starts: found)
    assert agent.propose() == found
    assert agent.policy[np.arange(6), at] == pytest.approx(before + FOUND_RATE * (1.0 - before))
    assert agent.policy.sum(axis=1) == pytest.approx(np.ones(6))


def test_ortrims_policy_goes_on_exploring_when_it_is_sure(problem, monkeypatch):
    case = problem(3, groups=6)
    agent = agents.create("ortrim", case.space, 40, 0)
    agent.policy = np.zeros_like(agent.even)
    agent.policy[:, 1] = 1.0
    drawn = []
    monkeypatch.setattr(agent.planner, "settle", lambda index, rates, free: drawn.append(index))
    for _ in range(1500):
        agent._sample()
    elsewhere = np.mean(np.array(drawn) != 1)
    assert len(drawn) > 300
    assert 0.3 * FLOOR < elsewhere < 2.0 * FLOOR
    assert (np.array(drawn) <= agent.planner.last).all()


class Two:
    """Latency of two groups, each as slow as it is wide."""

    def ratio(self, widths):
        return 0.2 + 0.42 * widths["a"] / 80 + 0.38 * widths["b"] / 80


def just_below_the_target():
    """A space whose best plan is expected 0.004 below the target, and that plan."""
    widths = tuple(range(10, 81, 10))
    best, target = {"a": 50, "b": 40}, Two().ratio({"a": 50, "b": 40}) + 0.004
    damage = {name: {w: 0.3 * (1 - w / 80) ** 2 for w in widths} for name in "ab"}
    return Space(tuple(Choice(name, 80, widths, {}) for name in "ab"), Two(), target, damage), best


def asked_just_below(agent, best):
    """Whether the best plan is asked for where measured ratios scatter by 0.015, half of which is more than 0.004."""
    plans = []
    for n in range(40):
        plan = agent.ask()
        luck = -0.015 if n % 2 else 0.015
        plans.append(plan)
        agent.tell(plan, Outcome(0.95 if plan == best else (plan["a"] + plan["b"]) / 200, Two().ratio(plan) + luck))
    return best in plans


@pytest.mark.parametrize("seed", range(3))
def test_what_is_expected_just_below_the_target_is_tried_too(seed, monkeypatch):
    space, best = just_below_the_target()
    assert asked_just_below(agents.create("ortrim", space, 40, seed), best)
    held = agents.create("ortrim", space, 40, seed)
    monkeypatch.setattr(type(held.budget), "caution", property(lambda _: 0.5, lambda *_: None), raising=False)
    assert not asked_just_below(held, best)


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
