"""A reward that drifts: with the representation it can be predicted, without it cannot."""

import numpy as np
import pytest
import torch

from ortrim.compressor.joint.representation import Representation

EPOCHS, STEPS, STATE = 24, 4, 5


def drifting(epoch, actions):
    """What is good at first is bad at the end, and everything gets better."""
    turn = np.cos(np.pi * epoch / (EPOCHS - 1))
    return float(0.3 + 0.4 * epoch / EPOCHS + 0.3 * turn * (2 * actions.mean() - 1))


def episodes(seed, each):
    rng = np.random.default_rng(seed)
    for epoch in range(EPOCHS):
        for _ in range(each):
            states = rng.random((STEPS, STATE)).astype(np.float32)
            actions = rng.random(STEPS).astype(np.float32) * 0.2 + 0.8 * rng.integers(0, 2)
            yield epoch, states, actions, drifting(epoch, actions)


def trained(told_epoch, updates=350):
    """A representation that is told `told_epoch(epoch)` of every episode, and its errors as it learns."""
    made = Representation(EPOCHS, STATE, size=32, rate=3e-3, seed=0)
    for epoch, states, actions, reward in episodes(0, each=6):
        made.observe(told_epoch(epoch), states, actions, reward)
    return made, [made.learn(updates // 5) for _ in range(5)]


def error(made, told_epoch):
    return np.mean([(made.predict(told_epoch(e), s, a) - r) ** 2 for e, s, a, r in episodes(1, each=3)])


@pytest.fixture(scope="module")
def knowing():
    return trained(lambda epoch: epoch)


@pytest.fixture(scope="module")
def blind():
    return trained(lambda epoch: 0)


def test_it_predicts_rewards_of_plans_it_has_not_seen(knowing):
    variance = np.var([reward for *_, reward in episodes(1, each=3)])
    assert error(knowing[0], lambda epoch: epoch) < 0.1 * variance


def test_without_the_epoch_they_cannot_be_predicted(blind):
    variance = np.var([reward for *_, reward in episodes(1, each=3)])
    assert error(blind[0], lambda epoch: 0) > 0.7 * variance


def online(seed, told_epoch):
    """Errors of what is expected of plans (epochs,), where each epoch's rewards are known only when it is over."""
    made, rng = Representation(EPOCHS, STATE, size=16, rate=5e-3, batch=32, seed=seed), np.random.default_rng(seed)
    found = []
    for epoch in range(EPOCHS):
        told = told_epoch(epoch)
        made.begin(told)
        states = rng.random((6, STEPS, STATE)).astype(np.float32)
        actions = (0.2 * rng.random((6, STEPS)) + 0.8 * rng.integers(0, 2, (6, 1))).astype(np.float32)
        rewards = [drifting(epoch, each) for each in actions]
        expected = [made.predict(told, *episode) for episode in zip(states, actions, strict=True)]
        found.append(np.mean(np.square(np.subtract(expected, rewards))))
        for episode in zip(states, actions, rewards, strict=True):
            made.observe(told, *episode)
        made.learn(20)
    return np.array(found)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_expects_rewards_of_an_epoch_before_it_has_seen_any_and_without_it_nobody_can(seed):
    """As the agent uses it: by the epochs behind. Without, the same decoder has all of them in one."""
    knowing, blind = online(seed, lambda epoch: epoch), online(seed, lambda epoch: 0)
    variance = np.var([reward for *_, reward in episodes(1, each=6)])
    late = slice(EPOCHS // 2, None)  # once the reward has begun to turn
    assert knowing[late].mean() < 0.4 * variance
    assert blind[late].mean() > variance


def test_its_error_falls(knowing):
    errors = knowing[1]
    assert errors[-1] < 0.25 * errors[0]


def test_embeddings_recurrent_net_and_decoder_all_learn(knowing):
    fresh = Representation(EPOCHS, STATE, size=32, rate=3e-3, seed=0)
    learned = knowing[0]
    for part in ("embedding", "recurrent", "decoder"):
        before, after = getattr(fresh, part).state_dict(), getattr(learned, part).state_dict()
        for name, value in before.items():
            assert (value - after[name]).abs().max() > 1e-3, (part, name)


def test_the_representation_of_an_epoch_depends_on_those_before_it():
    made = Representation(EPOCHS, STATE, size=16, seed=0)
    before = made.contexts(9)
    assert before.shape == (10, 16)
    with torch.no_grad():
        made.embedding.weight[4] += 1.0
    after = made.contexts(9)
    assert np.array_equal(before[:4], after[:4])
    assert (before[4:] != after[4:]).any(axis=1).all()


def test_an_epoch_begins_as_the_one_before_it():
    made = Representation(EPOCHS, STATE, size=16, seed=0)
    made.begin(3)
    assert torch.equal(made.embedding.weight[3], made.embedding.weight[2])
    assert not torch.equal(made.embedding.weight[3], made.embedding.weight[4])


def test_it_goes_on_bit_for_bit(tmp_path):
    straight, halfway = (Representation(EPOCHS, STATE, size=16, seed=0) for _ in range(2))
    for epoch, states, actions, reward in episodes(0, each=1):
        for made in (straight, halfway):
            made.observe(epoch, states, actions, reward)
    straight.learn(3)
    halfway.learn(3)
    torch.save(halfway.state(), tmp_path / "state.pt")
    resumed = Representation(EPOCHS, STATE, size=16, seed=5)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert straight.learn(4) == resumed.learn(4)
    assert np.array_equal(straight.contexts(EPOCHS - 1), resumed.contexts(EPOCHS - 1))


class Elsewhere:
    """A tensor that a checkpoint has put on another device."""

    def __init__(self, tensor):
        self.tensor = tensor

    def cpu(self):
        return self.tensor


def test_what_it_remembers_lies_on_the_cpu_wherever_the_weights_train():
    made, resumed = (Representation(EPOCHS, STATE, size=16, seed=0) for _ in range(2))
    for epoch, states, actions, reward in episodes(0, each=1):
        made.observe(epoch, states, actions, reward)
    state = made.state()
    resumed.restore({**state, "walked": [Elsewhere(tensor) for tensor in state["walked"]]})
    assert resumed.learn(2) == made.learn(2)
