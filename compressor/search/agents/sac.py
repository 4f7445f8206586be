"""`sac`: soft actor-critic (Haarnoja et al., "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning
with a Stochastic Actor", ICML 2018; twin critics and the squashed Gaussian as in "Soft Actor-Critic Algorithms and
Applications", 2018, section 5 and appendix C) on the walk that `ddpg` takes too.

The actor gives a Gaussian whose draw is squashed to the share of units to keep, so that exploration is the policy's own
and is learned. Where this departs from the papers:

1. The replay buffer holds the share that was taken, after walls and snapping, so that any plan can be learned from; the
   reward comes at the end of an episode and is given to all of its transitions (as in AMC), and the future counts
   through the target critics alone.
2. Gradient steps: a few an episode rather than one a transition, since an episode is an evaluation of seconds.
3. Rewards are divided by their spread and cut off (see `learning.in_spreads`), which also gives the temperature a fixed
   meaning. It stays at 0.1 and is not tuned.
4. A share of the first episodes takes uniform actions; the first of all is the plan that keeps one share everywhere.
5. Where there is a history it is used as by `ddpg` (transfer, augmented transfer, assistant).

`context` is appended to every state. It is empty here; a search whose reward drifts can tell the agent of it that way
(RLAL, CVPR 2024, conditions its actor and critics on a representation of the training epoch).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..budget import Row
from ..environment import Walk
from ..past import Past
from ..reward import reward
from ..space import Outcome, Space
from .base import BudgetAgent
from .inherited import Inherited, draw, learn_latency
from .learning import Memory, follow, in_spreads, one_thread, perceptron
from .registry import register
from .screen import Screen

__all__ = ["SAC", "Settings"]

LOG_SIGMA = (-5.0, 2.0)
"""Bounds of the logarithm of the Gaussian's standard deviation, before squashing."""
EDGE = 1e-3
"""Shares are kept this far from 0 and 1, where the squashing has no inverse."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters; "RLAL" stands for the values that a reproduction of that paper gives."""

    hidden: int = 300
    """Width of both hidden layers of actor and critics (RLAL)."""
    actor_rate: float = 1e-4
    """Adam learning rate of the actor (RLAL)."""
    critic_rate: float = 1e-3
    """Adam learning rate of the critics (RLAL)."""
    alpha: float = 0.1
    """Temperature: what one nat of entropy is worth, in spreads of the reward (RLAL)."""
    discount: float = 0.99
    tau: float = 0.01
    """Share of the way that the target critics follow at each gradient step."""
    batch: int = 64
    memory: int = 100
    """Episodes that the replay buffer holds."""
    warm_up: float = 0.1
    """Share of the episodes with uniform actions."""
    updates: int = 10
    """Gradient steps an episode after the warm-up (ours)."""
    rehearsal: int = 300
    """Gradient steps on the history beforehand, where there is one (ours)."""
    screened: int = 4
    """Plans that the assistant chooses among, where there is a history (ours)."""
    cutoff: float = 3.0
    """Rewards further from the median than this many spreads count as that far (ours)."""


@register("sac")
class SAC(BudgetAgent):
    """Soft actor-critic; see the module's docstring.

    Args:
        context_size: numbers that `context` has, appended to every state.
    """

    def __init__(
        self, space: Space, episodes: int, seed: int, settings: Settings | None = None, *, context_size: int = 0
    ) -> None:
        super().__init__(space, episodes, seed)
        self.settings = s = settings or Settings()
        self.walk = Walk(self.budget)
        self.context = np.zeros(context_size, np.float32)
        """What the agent is told of the environment; set it before `ask` or `tell`."""
        self.warm_up = max(1, round(s.warm_up * episodes))
        self.told = 0
        self.values: list[float] = []
        size = self.walk.state_size + context_size
        self.memory = Memory(s.memory * self.walk.steps, size)

        self.generator = torch.Generator().manual_seed(seed)
        self.actor = perceptron(size, s.hidden, self.generator, outputs=2)
        self.critics = nn.ModuleList(perceptron(size + 1, s.hidden, self.generator) for _ in range(2))
        self.target_critics = copy.deepcopy(self.critics)
        self.actor_steps = torch.optim.Adam(self.actor.parameters(), s.actor_rate, fused=True)
        self.critic_steps = torch.optim.Adam(self.critics.parameters(), s.critic_rate, fused=True)

        self.inherited: Inherited | None = None
        self.screen: Screen | None = None

    def warm(self, past: Past) -> bool:
        learn_latency(past, self.budget)
        self.inherited = Inherited(past, self.settings.cutoff, self.context)
        self.screen = Screen(self, past)
        self.warm_up = max(1, self.warm_up // 3)
        with one_thread():
            for _ in range(self.settings.rehearsal):
                self._update()
        return True

    # -- what to try -------------------------------------------------------------------------------------------------

    def propose(self) -> Row:
        if self.asked == 1:
            return self.planner.uniform()
        if self.asked <= self.warm_up:
            return self._walk(lambda row: float(self.rng.random()))
        with one_thread(), torch.no_grad():
            if self.screen is None:
                return self._walk(self._act)
            return self.screen.choose([self._walk(self._act) for _ in range(self.settings.screened)])

    def _walk(self, act: Callable[[Row], float]) -> Row:
        row: Row = ()
        for _ in range(self.walk.steps):
            row = (*row, self.walk.width(row, act(row)))
        return row

    def _act(self, row: Row) -> float:
        state = np.concatenate([self.walk.state(row), self.context])
        action, _ = self._draw(torch.from_numpy(state[None]))
        return float(action.item())

    def _draw(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Shares (n, 1) drawn for states (n, size), and the logarithm of their density (n, 1).

        The share is sigmoid(u) with u Gaussian (the papers' tanh, on 0..1), so log p(share) = log p(u) - log(share) -
        log(1 - share).
        """
        mean, log_sigma = self.actor(states).chunk(2, dim=1)
        low, high = LOG_SIGMA
        log_sigma = low + 0.5 * (high - low) * (torch.tanh(log_sigma) + 1.0)
        noise = torch.randn(mean.shape, generator=self.generator)
        drawn = mean + log_sigma.exp() * noise
        log_density = -0.5 * noise**2 - log_sigma - 0.5 * math.log(2.0 * math.pi)
        squashing = nn.functional.logsigmoid(drawn) + nn.functional.logsigmoid(-drawn)
        return torch.sigmoid(drawn), log_density - squashing

    # -- what to learn from it ---------------------------------------------------------------------------------------

    def learn(self, row: Row, outcome: Outcome) -> None:
        value = reward(outcome, self.space.target)
        self.told += 1
        self.values.append(value)
        states = self.walk.states(row)
        context = np.broadcast_to(self.context, (len(states), len(self.context)))
        actions = np.clip(self.walk.actions(row), EDGE, 1.0 - EDGE)
        self.memory.add(np.concatenate([states, context], axis=1), actions, value)
        if self.screen is not None:
            self.screen.observe(row, outcome)
        if self.told >= self.warm_up:
            with one_thread():
                for _ in range(self.settings.updates):
                    self._update()

    def _update(self) -> None:
        """One gradient step of the critics, one of the actor, one step of the target critics."""
        s = self.settings
        state, action, value, following, last = map(torch.from_numpy, self._batch())

        with torch.no_grad():
            drawn, density = self._draw(following)
            future = self._least(self.target_critics, following, drawn) - s.alpha * density
            # Every transition has the episode's reward already: the future adds to it what it is worth beyond that.
            wanted = last * value + (1.0 - last) * ((1.0 - s.discount) * value + s.discount * future)
        self.critic_steps.zero_grad()
        pairs = torch.cat([state, action], dim=1)
        sum(nn.functional.mse_loss(critic(pairs), wanted) for critic in self.critics).backward()
        self.critic_steps.step()

        self.actor_steps.zero_grad()
        self.critics.requires_grad_(False)
        drawn, density = self._draw(state)
        (s.alpha * density - self._least(self.critics, state, drawn)).mean().backward()
        self.critics.requires_grad_(True)
        self.actor_steps.step()
        follow(self.target_critics, self.critics, s.tau)

    def _batch(self) -> tuple[np.ndarray, ...]:
        """Transitions to learn from; of earlier searches too, while they count."""
        progress = self.asked / self.episodes
        return draw(self.settings.batch, self.memory, self._cut, self.inherited, progress, self.rng)

    def _cut(self, rewards: np.ndarray) -> np.ndarray:
        """Rewards in spreads from their median, within the cutoff."""
        return in_spreads(rewards, self.values, self.settings.cutoff)

    def _least(self, critics: nn.ModuleList, states: Tensor, actions: Tensor) -> Tensor:
        """The smaller of both critics' values (n, 1)."""
        pairs = torch.cat([states, actions], dim=1)
        return torch.minimum(*(critic(pairs) for critic in critics))
