"""The gymnasium environment: its contract, its walls, its states."""

import warnings
from collections.abc import Mapping

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from ortrim.compressor.search.budget import Budget
from ortrim.compressor.search.environment import PruningEnv, Walk
from ortrim.compressor.search.space import Choice, Outcome, Space
from ortrim.errors import NothingToPruneError

SIZES = {"a": 32, "b": 64, "c": 64}
FEATURES = {"c_in": 16.0, "c_out": 32.0, "kernel": 3.0, "stride": 1.0, "macs": 1e6, "latency": 0.3, "damage": 0.2}


class Shares:
    def ratio(self, widths: Mapping[str, int]) -> float:
        return 0.1 + 0.3 * sum(widths[name] / size for name, size in SIZES.items())


def make_space(target: float = 0.6) -> Space:
    steps = {"a": (8, 16, 24, 32), "b": (0, 16, 32, 48, 64), "c": (64,)}
    return Space(tuple(Choice(name, SIZES[name], steps[name], FEATURES) for name in SIZES), Shares(), target)


def evaluate(plan: Mapping[str, int]) -> Outcome:
    return Outcome(plan["a"] / 32 * 0.5 + plan["b"] / 64 * 0.5, Shares().ratio(plan))


def test_it_passes_gymnasiums_own_check_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # It has no window to draw in, and says so in `metadata`.
        check_env(PruningEnv(make_space(), evaluate), skip_render_check=True)


def episode(env: PruningEnv, actions: list[float]) -> tuple[list[float], dict]:
    env.reset(seed=0)
    rewards = []
    for action in actions:
        state, reward, terminated, truncated, info = env.step(np.array([action], np.float32))
        assert env.observation_space.contains(state)
        assert not truncated
        rewards.append(reward)
        assert terminated == (len(rewards) == 3)
    return rewards, info


def test_an_episode_ends_with_the_plan_its_outcome_and_the_reward():
    rewards, info = episode(PruningEnv(make_space(target=1.0), evaluate, lower_wall=False), [0.8, 0.5, 0.0])
    assert info["plan"] == {"a": 24, "b": 32, "c": 64}
    assert info["outcome"] == evaluate(info["plan"])
    assert rewards == [0.0, 0.0, info["outcome"].score]


def test_actions_are_clipped_to_the_walls():
    # 0.6 - 0.1 - 0.3 for "c" leaves 0.2 for "a" (0.3 when full) and "b" (0.3 when full), less the caution.
    assert episode(PruningEnv(make_space(), evaluate), [1.0, 1.0, 1.0])[1]["plan"] == {"a": 16, "b": 0, "c": 64}
    assert episode(PruningEnv(make_space(0.75), evaluate), [0.0, 0.0, 0.0])[1]["plan"] == {"a": 8, "b": 48, "c": 64}


def test_without_the_lower_wall_a_plan_may_be_narrower_than_the_target_asks():
    assert episode(PruningEnv(make_space(0.75), evaluate, lower_wall=False), [0.0] * 3)[1]["plan"]["b"] == 0


def test_a_target_out_of_reach_ends_at_the_narrowest_plan_and_a_negative_reward():
    space = make_space(0.1)
    rewards, info = episode(PruningEnv(space, evaluate), [1.0, 1.0, 1.0])
    assert info["plan"] == space.narrowest
    assert rewards[-1] < 0.0


def test_measured_latency_corrects_the_walls_of_later_episodes():
    slower = PruningEnv(make_space(0.7), lambda plan: Outcome(1.0, Shares().ratio(plan) + 0.1))
    first = episode(slower, [1.0, 1.0, 1.0])[1]["outcome"].ratio
    for _ in range(5):
        last = episode(slower, [1.0, 1.0, 1.0])[1]["outcome"].ratio
    assert last <= 0.7 < first


def test_states_tell_groups_and_prefixes_apart():
    walk = Walk(Budget(make_space()))
    states = walk.states((16, 32, 64))
    assert states.shape == (4, walk.state_size)
    assert states.dtype == np.float32
    assert len(np.unique(states, axis=0)) == 4
    assert not np.array_equal(walk.state((16,)), walk.state((24,)))
    assert np.allclose(walk.actions((16, 32, 64)), [0.5, 0.5, 1.0])


def test_a_step_after_the_end_asks_for_a_reset():
    env = PruningEnv(make_space(), evaluate)
    episode(env, [1.0, 1.0, 1.0])
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.array([1.0], np.float32))


def test_a_space_without_choices_is_refused():
    with pytest.raises(NothingToPruneError):
        PruningEnv(Space((), Shares(), 0.6), evaluate)
