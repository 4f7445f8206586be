"""What every registered agent promises; a new one is tested by being registered."""

from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ortrim.compressor.search import agents
from ortrim.compressor.search.agents import Agent
from ortrim.compressor.search.agents.base import Replayed
from ortrim.compressor.search.agents.registry import BUILT_IN
from ortrim.compressor.search.space import Choice, Outcome, Space
from ortrim.errors import InputError, NothingToPruneError, PlanError

NEEDS = {"bocr": "botorch"}
"""What an agent needs beyond the package itself: the contract is for those that can be had."""
AVAILABLE = [
    pytest.param(
        name, marks=pytest.mark.skipif(find_spec(NEEDS.get(name, "torch")) is None, reason=f"needs {NEEDS.get(name)}")
    )
    for name in sorted(BUILT_IN)
]
every_agent = pytest.mark.parametrize("name", AVAILABLE)


class Table:
    """A chain of layers, each as slow as its inputs times its outputs, on top of a fixed part."""

    def __init__(self, sizes: Mapping[str, int], costs: list[float]) -> None:
        self.sizes, self.costs = sizes, costs

    def ratio(self, widths: Mapping[str, int]) -> float:
        share = [1.0, *(widths.get(name, size) / size for name, size in self.sizes.items()), 1.0]
        products = [a * b for a, b in pairwise(share)]
        return 0.1 + 0.9 * float(np.dot(products, self.costs) / sum(self.costs))


@st.composite
def spaces(draw) -> Space:
    """Spaces of one to six groups: groups with a single width, removable groups, hints for some, any target."""
    sizes = {f"g{i}": size for i, size in enumerate(draw(st.lists(st.integers(1, 40), min_size=1, max_size=6)))}
    choices, damage = [], {}
    for name, size in sizes.items():
        narrower = draw(st.sets(st.integers(0, size - 1), max_size=5))
        widths = (*sorted(narrower), size)
        features = draw(st.sampled_from([{}, {"c_in": 3.0, "damage": 0.4, "latency": 0.2}]))
        choices.append(Choice(name, size, widths, features))
        if draw(st.booleans()):
            damage[name] = {width: draw(st.floats(0.0, 1.0)) for width in widths}
    costs = draw(st.lists(st.floats(0.05, 1.0), min_size=len(sizes) + 1, max_size=len(sizes) + 1))
    return Space(tuple(choices), Table(sizes, costs), draw(st.floats(0.05, 1.0)), damage)


def outcome(space: Space, plan: Mapping[str, int]) -> Outcome:
    """Deterministic: a slower device than the table's, and a score that falls with what is cut."""
    kept = np.mean([plan[choice.group] / choice.size for choice in space.choices])
    return Outcome(float(kept) ** 0.5, space.latency.ratio(plan) * 1.02)


def search(agent: Agent, space: Space, episodes: int) -> list[dict[str, int]]:
    """The plans of a search, which ends where the agent has nothing new."""
    plans = []
    for _ in range(episodes):
        plan = agent.ask()
        if agent.exhausted:
            break
        plans.append(plan)
        agent.tell(plan, outcome(space, plan))
    return plans


@every_agent
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(space=spaces(), seed=st.integers(0, 2**31))
def test_plans_are_whole_offered_and_within_the_predicted_target(name, space, seed):
    agent = agents.create(name, space, episodes=8, seed=seed)
    offered = {choice.group: choice.widths for choice in space.choices}
    seen = set()
    for _ in range(8):
        plan = agent.ask()
        assert list(plan) == list(offered)
        assert all(type(kept) is int and kept in offered[group] for group, kept in plan.items())
        if agent.budget.fits(tuple(space.narrowest.values())):
            assert agent.budget.fits(tuple(plan.values())) or agent.exhausted or agent.stepwise
        elif not seen:
            assert plan == space.narrowest or agent.stepwise
        assert agent.exhausted or tuple(plan.values()) not in seen
        seen.add(tuple(plan.values()))
        agent.tell(plan, outcome(space, plan))


@every_agent
def test_the_same_seed_gives_the_same_plans_and_global_generators_are_left_alone(name, problem):
    space = problem(groups=6).space
    first = search(agents.create(name, space, 20, seed=3), space, 20)
    np.random.seed(99)
    before = np.random.get_state()[1].copy()
    assert search(agents.create(name, space, 20, seed=3), space, 20) == first
    assert np.array_equal(np.random.get_state()[1], before)


@every_agent
def test_replaying_trials_resumes_exactly(name, problem):
    space = problem(groups=8).space
    straight = search(agents.create(name, space, 20, seed=0), space, 20)

    resumed = agents.create(name, space, 20, seed=0)
    assert agents.replay(resumed, [(plan, outcome(space, plan)) for plan in straight[:12]]) == Replayed(0, ())
    assert search(resumed, space, 8) == straight[12:]


@pytest.mark.parametrize("name", [case for case in AVAILABLE if case.values != ("uniform",)])
def test_replaying_resumes_within_a_round_of_several_plans(name, problem):
    space = problem(groups=8).space
    agent = agents.create(name, space, 16, seed=0)
    rounds = []
    for _ in range(4):
        rounds.append([agent.ask() for _ in range(4)])
        for plan in rounds[-1]:
            agent.tell(plan, outcome(space, plan))
    told = [(plan, outcome(space, plan)) for plan in [*rounds[0], *rounds[1][:2]]]
    resumed = agents.create(name, space, 16, seed=0)
    assert agents.replay(resumed, told, jobs=4) == Replayed(0, tuple(rounds[1][2:]))
    for plan in rounds[1][2:]:
        resumed.tell(plan, outcome(space, plan))
    assert [resumed.ask() for _ in range(4)] == rounds[2]


@every_agent
def test_plans_from_elsewhere_are_learned_from(name, problem):
    space = problem(groups=8).space
    agent = agents.create(name, space, 30, seed=0)
    elsewhere = {"group0": 31}  # Off the steps, and the other groups left out: they keep all.
    agent.tell(elsewhere, Outcome(0.99, 0.5))
    agent.tell(space.full, Outcome(1.0, 1.0))
    for plan in search(agent, space, 10):
        assert all(kept in choice.widths for choice, kept in zip(space.choices, plan.values(), strict=True))
    assert agent.best[0] == space.row(elsewhere)
    with pytest.raises(PlanError, match="'nowhere'"):
        agent.tell({"nowhere": 3}, Outcome(0.5, 0.5))


# There are few uniform plans, and one share at a time is what that agent is for.
@pytest.mark.parametrize("name", [case for case in AVAILABLE if case.values != ("uniform",)])
def test_asking_again_before_telling_gives_other_plans(name, problem):
    space = problem(groups=8).space
    agent = agents.create(name, space, 30, seed=0)
    plans = [agent.ask() for _ in range(8)]
    assert len({tuple(plan.values()) for plan in plans}) == 8
    for plan in plans:
        agent.tell(plan, outcome(space, plan))


@every_agent
def test_failed_evaluations_do_no_harm(name, problem):
    space = problem(groups=6).space
    agent = agents.create(name, space, 20, seed=0)
    for n in range(20):
        plan = agent.ask()
        agent.tell(plan, Outcome(0.0, float("inf")) if n % 3 else outcome(space, plan))
    assert agent.best[1].ratio < 1.0


@every_agent
def test_a_space_without_choices_is_refused(name, problem):
    empty = Space((), problem(groups=3).space.latency, 0.5)
    with pytest.raises(NothingToPruneError):
        agents.create(name, empty, 10, 0)


def test_unknown_names_are_refused_with_the_known_ones(problem):
    with pytest.raises(InputError, match=r"'sarsa'.*ddpg, ddpg-guided, greedy, knapsack, .*random, .*uniform"):
        agents.create("sarsa", problem(groups=3).space, 10, 0)
    with pytest.raises(InputError, match="--episodes"):
        agents.create("random", problem(groups=3).space, 0, 0)


def test_a_users_agent_is_created_by_its_name(problem, monkeypatch):
    monkeypatch.setattr("ortrim.compressor.search.agents.registry._registered", {})

    @agents.register("widest")
    class Widest(Agent):
        def __init__(self, space: Space, episodes: int, seed: int) -> None:
            self.space = space

        def ask(self):
            return self.space.full

        def tell(self, plan, outcome):
            pass

    space = problem(groups=3).space
    agent = agents.create("widest", space, 10, 0)
    assert isinstance(agent, Widest)
    assert agent.ask() == space.full
    assert not agent.exhausted
    assert "widest" in agents.names()
    with pytest.raises(InputError, match="registered already"):
        agents.register("widest")(lambda space, episodes, seed: Widest(space, episodes, seed))


def test_a_users_agent_is_found_by_its_module(problem, tmp_path, monkeypatch):
    (tmp_path / "my_agents.py").write_text(
        "from ortrim.compressor.search.agents import BudgetAgent\n"
        "class Chance(BudgetAgent):\n    def propose(self):\n        return self.planner.random()\n"
        "three = 3\ndef none():\n    return None\ndef mute(space, episodes, seed):\n    return None\n"
    )
    monkeypatch.chdir(tmp_path)
    space = problem(groups=4).space
    plan = agents.create("my_agents:Chance", space, 10, 0).ask()
    assert list(plan) == list(space.full)
    for name, said in [("my_agents:None", "None"), ("nowhere:X", "nowhere"), ("my_agents:three", "no factory")]:
        with pytest.raises(InputError, match=rf"--agent {name}.*{said}"):
            agents.find(name)
    with pytest.raises(InputError, match="no factory"):
        agents.find("my_agents:none")
    with pytest.raises(InputError, match="no Agent"):
        agents.create("my_agents:mute", space, 10, 0)
