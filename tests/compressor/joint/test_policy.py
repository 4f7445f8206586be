"""The agent is told of the epoch, and so are its memories."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from ortrim.compressor.joint.offer import Settled
from ortrim.compressor.joint.policy import Policy
from ortrim.compressor.joint.schedule import Schedule
from ortrim.compressor.joint.settings import Settings
from ortrim.compressor.search.agents.sac import SAC
from ortrim.compressor.search.space import Choice, Outcome, Space

SIZES = {"a": 16, "b": 32, "c": 16}
TINY = Settings(epochs=20, fill=0.1, joint=0.4, episodes=3, embedding=6, hidden=8, agent_updates=8, decoder_updates=3)


class Shares:
    def ratio(self, widths: Mapping[str, int]) -> float:
        return 0.1 + 0.3 * sum(widths[name] / size for name, size in SIZES.items())


@pytest.fixture
def space():
    widths = {"a": (4, 8, 12, 16), "b": (0, 8, 16, 24, 32), "c": (4, 8, 12, 16)}
    return Space(tuple(Choice(name, SIZES[name], widths[name], {}) for name in SIZES), Shares(), 0.7)


def policy(space, settings=TINY, seed=0):
    return Policy(space, Settled(0.7, 0.01, 0.0, 0.005), settings, Schedule.of(settings), seed)


def play(made, epochs):
    """Some epochs; every plan that was asked for."""
    plans = []
    for epoch in epochs:
        made.begin(epoch)
        for _ in range(TINY.episodes):
            plan = made.ask()
            made.tell(plan, Outcome(plan["b"] / 40 + epoch / 100, Shares().ratio(plan) + 0.01))
            plans.append(plan)
        made.learn()
    return plans


def test_every_plan_keeps_to_the_corrected_budget(space):
    for settings in (TINY, Settings(**{**TINY.to_dict(), "agent": "random"})):
        made = policy(space, settings)
        for plan in play(made, range(1, 8)):
            assert Shares().ratio(plan) + 0.01 <= 0.7


def test_what_it_is_told_does_not_move_the_correction(space):
    made = policy(space)
    play(made, range(1, 4))
    line = made.agent.budget.correction
    assert (line.shift, line.slope, line.scatter) == (0.01, 0.0, 0.005)


def test_states_carry_the_representation_of_their_epoch_as_it_is_now(space):
    made = policy(space)
    play(made, [1, 2])
    agent = made.agent
    size, steps = agent.walk.state_size, agent.walk.steps
    before = agent.memory.states[: steps * TINY.episodes, size:].copy()
    made.begin(3)
    contexts = made.representation.contexts(3)
    first, second = agent.memory.states[: 2 * steps * TINY.episodes].reshape(2, -1, size + 6)
    assert np.array_equal(first[:, size:], np.broadcast_to(contexts[1], (len(first), 6)))
    assert np.array_equal(second[:, size:], np.broadcast_to(contexts[2], (len(second), 6)))
    assert not np.array_equal(before, first[:, size:])  # it has learned since
    assert np.array_equal(agent.context, contexts[3])
    assert not np.array_equal(contexts[1], contexts[2])


def test_the_actor_acts_on_the_epoch(space):
    made = policy(space)
    play(made, range(1, 6))
    agent = made.agent
    state = torch.zeros(1, agent.walk.state_size)
    said = [agent.actor(torch.cat([state, torch.full((1, 6), value)], dim=1)) for value in (-1.0, 1.0)]
    assert (said[0] - said[1]).abs().max() > 1e-3


def test_a_plan_may_come_again_in_another_epoch(space):
    made = policy(space)
    made.begin(1)
    made.tell({"a": 16, "b": 8, "c": 8}, Outcome(0.5, 0.6))
    assert made.agent.known
    made.begin(2)
    assert not made.agent.known


def test_first_epochs_take_uniform_actions_and_learn_nothing(space):
    made = policy(space)
    before = {name: value.clone() for name, value in made.agent.actor.state_dict().items()}
    play(made, [1])  # of two that fill
    assert all(torch.equal(value, before[name]) for name, value in made.agent.actor.state_dict().items())
    play(made, [2, 3])
    assert any(not torch.equal(value, before[name]) for name, value in made.agent.actor.state_dict().items())


def test_without_a_representation_states_are_the_walks_own(space):
    made = policy(space, Settings(**{**TINY.to_dict(), "representation": False}))
    assert isinstance(made.agent, SAC)
    assert made.representation is None
    assert made.agent.memory.states.shape[1] == made.agent.walk.state_size
    play(made, [1, 2, 3])
    assert made.learn() is None


@pytest.mark.parametrize("changed", [{}, {"agent": "random"}, {"representation": False}])
def test_it_goes_on_bit_for_bit(space, changed, tmp_path):
    settings = Settings(**{**TINY.to_dict(), **changed})
    straight = policy(space, settings)
    play(straight, range(1, 5))
    torch.save(straight.state(), tmp_path / "state.pt")
    resumed = policy(space, settings)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert play(straight, range(5, 9)) == play(resumed, range(5, 9))
    assert resumed.agent.best[0] == straight.agent.best[0]
