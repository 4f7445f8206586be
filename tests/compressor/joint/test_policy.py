"""The agent is told of the epoch, and so are its memories."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from ortrim.compressor.joint.offer import Settled
from ortrim.compressor.joint.policy import EpochSAC, Policy
from ortrim.compressor.joint.schedule import Schedule
from ortrim.compressor.joint.settings import Settings
from ortrim.compressor.search.agents.sac import SAC
from ortrim.compressor.search.agents.sac import Settings as SACSettings
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


def test_the_actor_learns_to_act_on_the_epoch(space, monkeypatch):
    """With a reward that turns from one epoch to the next, of which the representation tells."""
    settings = {**TINY.to_dict(), "actor_rate": 3e-3, "alpha": 0.02, "hidden": 32, "agent_updates": 60}
    made = policy(space, Settings(**{**settings, "decoder_updates": 0}))

    def contexts(epoch):
        return np.where(np.arange(epoch + 1) % 2, 1.0, -1.0)[:, None].repeat(6, axis=1).astype(np.float32)

    def kept(sign):
        """The share of b that the actor would keep, most likely."""
        state = torch.from_numpy(made.agent.walk.state((12,)))
        with torch.no_grad():
            return float(torch.sigmoid(made.agent.actor(torch.cat([state, torch.full((6,), sign)]))[0]))

    monkeypatch.setattr(made.representation, "contexts", contexts)
    before = kept(1.0) - kept(-1.0)
    for epoch in range(1, 11):
        made.begin(epoch)
        for _ in range(6):
            plan = made.ask()
            share = plan["b"] / SIZES["b"]
            made.tell(plan, Outcome(share if epoch % 2 else 1 - share, Shares().ratio(plan) + 0.01))
        made.learn()
    assert abs(before) < 0.1
    assert kept(1.0) - kept(-1.0) > 0.3


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


@pytest.mark.parametrize("updates", [0, 1, 5, 7])
def test_a_joint_epoch_has_as_many_gradient_steps_as_was_said_after_the_representation_has_learned(
    space, monkeypatch, updates
):
    made = policy(space, Settings(**{**TINY.to_dict(), "agent_updates": updates}))
    happened = []
    update, learn = EpochSAC._update, made.representation.learn
    monkeypatch.setattr(EpochSAC, "_update", lambda self: happened.append("agent") or update(self))
    monkeypatch.setattr(made.representation, "learn", lambda count: happened.append("decoder") or learn(count))
    play(made, [1, 2])  # these fill
    assert happened == ["decoder"] * 2
    happened.clear()
    play(made, [3])
    assert happened == ["decoder"] + ["agent"] * updates
    size = made.agent.walk.state_size
    contexts = made.representation.contexts(3)
    if updates:  # it learned from the representation as it was by then
        assert np.array_equal(made.agent.memory.states[made.agent.memory.count - 1, size:], contexts[3])
        assert np.array_equal(made.agent.context, contexts[3])


def test_a_smaller_replay_buffer_forgets_the_oldest_episodes(space):
    made = policy(space, Settings(**{**TINY.to_dict(), "replay_episodes": 5}))
    play(made, [1, 2, 3])
    agent = made.agent
    assert len(agent.memory.states) == 5 * agent.walk.steps
    made.begin(4)
    contexts = made.representation.contexts(4)
    # The nine episodes lie at 0 1 2 3 4 0 1 2 3: the three of epoch 3 at 1 to 3, the last two of epoch 2 at 4 and 0.
    held = agent.memory.states[:: agent.walk.steps, agent.walk.state_size :]
    assert np.array_equal(held, contexts[[2, 3, 3, 3, 2]])


def test_settings_reach_the_agent_and_the_representation(space):
    own = {
        "discount": 0.5,
        "tau": 0.25,
        "agent_batch": 9,
        "reward_cutoff": 2.0,
        "replay_episodes": 4,
        "decoder_batch": 3,
    }
    made = policy(space, Settings(**{**TINY.to_dict(), **own}))
    agent = made.agent.settings
    assert (agent.discount, agent.tau, agent.batch, agent.cutoff, agent.memory) == (0.5, 0.25, 9, 2.0, 4)
    assert made.representation.batch == 3
    usual, ours = SACSettings(), Settings()
    assert (usual.discount, usual.tau, usual.batch, usual.cutoff) == (
        *(ours.discount, ours.tau, ours.agent_batch, ours.reward_cutoff),
    )


def test_without_a_representation_states_are_the_walks_own(space):
    made = policy(space, Settings(**{**TINY.to_dict(), "representation": False}))
    assert isinstance(made.agent, SAC)
    assert made.representation is None
    assert made.agent.memory.states.shape[1] == made.agent.walk.state_size
    play(made, [1, 2, 3])
    assert made.learn() is None


@pytest.mark.parametrize("changed", [{}, {"agent": "random"}, {"representation": False}, {"replay_episodes": 5}])
def test_it_goes_on_bit_for_bit(space, changed, tmp_path):
    settings = Settings(**{**TINY.to_dict(), **changed})
    straight = policy(space, settings)
    play(straight, range(1, 5))
    torch.save(straight.state(), tmp_path / "state.pt")
    resumed = policy(space, settings)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert play(straight, range(5, 9)) == play(resumed, range(5, 9))
    assert resumed.agent.best[0] == straight.agent.best[0]
