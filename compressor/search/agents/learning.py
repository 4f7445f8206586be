"""What the agents with nets share: one thread, nets from a seed, a replay buffer, rewards on one scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

__all__ = ["Memory", "follow", "in_spreads", "one_thread", "perceptron"]


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside, as many as before after it: the setting is global and belongs to whoever searches.

    These nets are too small to share out, and their sums must not depend on the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def perceptron(inputs: int, hidden: int, generator: torch.Generator, outputs: int = 1) -> nn.Sequential:
    """inputs -> hidden -> hidden -> outputs with ReLU; initialised as `nn.Linear` does, but from `generator`."""
    sizes = [(inputs, hidden), (hidden, hidden), (hidden, outputs)]
    layers = [nn.utils.skip_init(nn.Linear, *size) for size in sizes]
    with torch.no_grad():
        for layer, (fan_in, _) in zip(layers, sizes, strict=True):
            for parameter in layer.parameters():
                parameter.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


class Memory:
    """Ring of transitions (state, action, reward, next state, final)."""

    def __init__(self, capacity: int, state_size: int) -> None:
        self.states = np.zeros((capacity, state_size), np.float32)
        self.after = np.zeros((capacity, state_size), np.float32)
        self.actions = np.zeros((capacity, 1), np.float32)
        self.rewards = np.zeros((capacity, 1), np.float32)
        self.final = np.zeros((capacity, 1), np.float32)
        self.count = 0

    def add(self, states: np.ndarray, actions: np.ndarray, value: float) -> None:
        """One episode: states (steps + 1, state_size), actions (steps,), the reward that all its transitions get."""
        at = np.arange(self.count, self.count + len(actions)) % len(self.states)
        self.states[at], self.after[at] = states[:-1], states[1:]
        self.actions[at, 0], self.rewards[at] = actions, value
        self.final[at] = 0.0
        self.final[at[-1]] = 1.0
        self.count += len(actions)

    def sample(self, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """`batch` transitions, with replacement."""
        at = rng.integers(0, min(self.count, len(self.states)), size=batch)
        return self.states[at], self.actions[at], self.rewards[at], self.after[at], self.final[at]


def follow(slow: nn.Module, fast: nn.Module, tau: float) -> None:
    """Move the parameters of `slow` a share `tau` of the way to those of `fast`."""
    with torch.no_grad():
        for follower, leader in zip(slow.parameters(), fast.parameters(), strict=True):
            follower.lerp_(leader, tau)


def in_spreads(rewards: np.ndarray, values: Sequence[float], cutoff: float) -> np.ndarray:
    """Rewards (n, 1) in spreads from the median of `values`, those beyond `cutoff` spreads moved to it.

    A plan just above the target is worth less than a wrecked one; such jumps would drown the differences that matter.
    """
    known = np.array(values)
    middle = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - middle)) + 1e-6
    return np.clip((rewards - middle) / spread, -cutoff, cutoff).astype(np.float32)
