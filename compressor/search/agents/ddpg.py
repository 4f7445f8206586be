"""`ddpg`: the agent of AMC (He et al., "AutoML for Model Compression and Acceleration on Mobile Devices", ECCV 2018).

Deep deterministic policy gradient: an actor proposes for each group in turn the share of units to keep; a critic learns
what an episode that goes on like that is worth. Every transition of an episode gets its final reward, less a moving
baseline, and later states are not discounted.

Where this departs from the paper:

1. Latency takes the place of FLOPs, in the state and in the walls around actions (`environment`, `budget`).
2. The replay buffer holds the width that was taken, after walls and snapping, rather than the actor's raw output: the
   plan alone then determines its transitions, so that any plan can be learned from, whoever proposed it.
3. An evaluation costs seconds and there are 100 to 300 in all, not 800. The warm-up is a share of them, the noise
   decays over the rest, and there are fewer gradient steps an episode (AMC: one a transition).
4. Rewards are divided by their spread and cut off at a few spreads, since a plan just above the target is worth less
   than a wrecked one, and such jumps would drown the differences that matter. `cutoff=None` leaves rewards as they are.
5. The state has no entry for the layer's type: what is known of a group does not name it, and a linear layer shows by
   its height and width of 1. It has entries that AMC's has not (parameters, layers, narrowest share, damage), and their
   scales are fixed, not taken from the net.
6. No plan is evaluated twice: one that comes up again is drawn anew under more noise, and changed in a few groups only
   where that finds nothing new.
7. After Mu et al. (arXiv 2107.08815), where there is a history: actor and critic are trained on it beforehand, part of
   each batch is drawn from it for the first half of the search, the warm-up is shorter, and a learned predictor of the
   score (`assistant`) chooses among several of the actor's plans while it ranks real outcomes well.

All plans are random walks at first and the actor's from then on, as published. On made-up nets of 30 groups (those of
the tests) an actor that starts from nothing is far behind the knapsack after 150 evaluations; `ddpg-guided` is the
hybrid that is not.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from statistics import NormalDist

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

__all__ = ["DDPG", "Settings"]

REDRAWN = 16
"""Draws under more and more noise that look for a plan that is not known."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters; "AMC" stands for the paper (section 3 and 4.1) and the authors' code."""

    hidden: int = 300
    """Width of both hidden layers of actor and critic (AMC)."""
    actor_rate: float = 1e-4
    """Adam learning rate of the actor (AMC)."""
    critic_rate: float = 1e-3
    """Adam learning rate of the critic (AMC)."""
    discount: float = 1.0
    """Later states count in full, so that no group is favoured for being early (AMC)."""
    tau: float = 0.01
    """Share of the way that the target nets follow at each gradient step (AMC)."""
    batch: int = 64
    """Transitions a gradient step (AMC)."""
    memory: int = 100
    """Episodes that the replay buffer holds (AMC)."""
    baseline: float = 0.5
    """Share of the way that the moving baseline follows a batch's mean reward (AMC)."""
    noise: float = 0.5
    """Standard deviation of the truncated normal noise after the warm-up (AMC)."""
    last_noise: float = 0.02
    """The same in the last episode; with 63 episodes after the warm-up this is AMC's decay of 0.95 an episode."""
    warm_up: float = 0.2
    """Share of the episodes before the actor is asked (ours; AMC's code: 100 of 800)."""
    updates: int = 8
    """Gradient steps an episode after the warm-up (ours; AMC: as many as there are groups). About 3 ms each."""
    cutoff: float | None = 3.0
    """Rewards further from the median than this many spreads count as that far (ours; AMC: None)."""
    rehearsal: int = 300
    """Gradient steps on the history beforehand (ours)."""
    screened: int = 4
    """Plans that the assistant chooses among, where there is a history (ours)."""


@register("ddpg")
class DDPG(BudgetAgent):
    """AMC's agent on the walk through the groups; see the module's docstring."""

    def __init__(self, space: Space, episodes: int, seed: int, settings: Settings | None = None) -> None:
        super().__init__(space, episodes, seed)
        self.settings = s = settings or Settings()
        self.walk = Walk(self.budget)
        self.warm_up = max(1, round(s.warm_up * episodes))
        self.told = 0
        self.values: list[float] = []
        self.moving_baseline: float | None = None
        self.memory = Memory(s.memory * self.walk.steps, self.walk.state_size)

        generator = torch.Generator().manual_seed(seed)
        self.actor = perceptron(self.walk.state_size, s.hidden, generator).append(nn.Sigmoid())
        self.critic = perceptron(self.walk.state_size + 1, s.hidden, generator)
        self.target_actor, self.target_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_steps = torch.optim.Adam(self.actor.parameters(), s.actor_rate, fused=True)
        self.critic_steps = torch.optim.Adam(self.critic.parameters(), s.critic_rate, fused=True)

        self.inherited: Inherited | None = None
        self.screen: Screen | None = None

    def warm(self, past: Past) -> bool:
        learn_latency(past, self.budget)
        self.inherited = Inherited(past, self.settings.cutoff or 3.0)
        self.screen = Screen(self, past)
        self.warm_up = max(1, self.warm_up // 3)
        with one_thread():
            for _ in range(self.settings.rehearsal):
                self._update()
        return True

    # -- what to try -------------------------------------------------------------------------------------------------

    def propose(self) -> Row:
        if self.asked <= self.warm_up:
            return self._opening()
        with one_thread():
            if self.screen is None:
                return self._candidate()
            return self.screen.choose([self._candidate() for _ in range(self.settings.screened)])

    def vary(self, row: Row) -> Row | None:
        """Another draw of what proposed `row`, under more noise each time; a change of `row` if they are all known."""
        with one_thread():
            for attempt in range(1, REDRAWN + 1):
                drawn = self._random_walk() if self.asked <= self.warm_up else self._act(1.0 + attempt / 2)
                if drawn not in self.known and self.budget.fits(drawn):
                    return drawn
        return super().vary(row)

    def _opening(self) -> Row:
        """A plan of the warm-up."""
        return self._random_walk()

    def _candidate(self) -> Row:
        """A plan after the warm-up."""
        return self._act()

    def _random_walk(self) -> Row:
        row: Row = ()
        for _ in range(self.walk.steps):
            row = (*row, self.walk.width(row, self.rng.random()))
        return row

    def _act(self, more: float = 1.0) -> Row:
        """The actor's plan under truncated normal noise, of `more` times the deviation that it is time for."""
        s = self.settings
        progress = min(1.0, (self.asked - self.warm_up) / max(1, self.episodes - self.warm_up))
        sigma = min(s.noise, more * s.noise * (s.last_noise / s.noise) ** progress)
        row: Row = ()
        with torch.no_grad():
            for _ in range(self.walk.steps):
                mean = self.actor(torch.from_numpy(self.walk.state(row))).item()
                row = (*row, self.walk.width(row, self._truncated_normal(mean, sigma)))
        return row

    def _truncated_normal(self, mean: float, sigma: float) -> float:
        """A draw from N(mean, sigma) within [0, 1], by inverting the distribution function."""
        normal = NormalDist(mean, sigma)
        draw = self.rng.uniform(normal.cdf(0.0), normal.cdf(1.0))
        return min(1.0, max(0.0, normal.inv_cdf(min(max(draw, 1e-12), 1.0 - 1e-12))))

    # -- what to learn from it ---------------------------------------------------------------------------------------

    def learn(self, row: Row, outcome: Outcome) -> None:
        value = reward(outcome, self.space.target)
        self.told += 1
        self.values.append(value)
        self.memory.add(self.walk.states(row), self.walk.actions(row), value)
        if self.screen is not None:
            self.screen.observe(row, outcome)
        if self.told >= self.warm_up:
            with one_thread():
                for _ in range(self.settings.updates):
                    self._update()

    def _update(self) -> None:
        """One gradient step of critic and actor, one step of the target nets (Lillicrap et al., ICLR 2016, alg. 1)."""
        s = self.settings
        states, actions, rewards, after, final = self._batch()
        values = self._less_baseline(rewards)
        state, action, value, following, last = map(torch.from_numpy, (states, actions, values, after, final))

        with torch.no_grad():
            future = self._q(self.target_critic, following, self.target_actor(following))
            wanted = value + s.discount * (1.0 - last) * future
        self.critic_steps.zero_grad()
        nn.functional.mse_loss(self._q(self.critic, state, action), wanted).backward()
        self.critic_steps.step()

        self.actor_steps.zero_grad()
        self.critic.requires_grad_(False)
        (-self._q(self.critic, state, self.actor(state)).mean()).backward()
        self.critic.requires_grad_(True)
        self.actor_steps.step()

        follow(self.target_actor, self.actor, s.tau)
        follow(self.target_critic, self.critic, s.tau)

    def _batch(self) -> tuple[np.ndarray, ...]:
        """Transitions to learn from; of earlier searches too, while they count."""
        progress = self.asked / self.episodes
        return draw(self.settings.batch, self.memory, self._cut, self.inherited, progress, self.rng)

    def _q(self, critic: nn.Module, state: Tensor, action: Tensor) -> Tensor:
        return critic(torch.cat([state, action], dim=1))

    def _cut(self, rewards: np.ndarray) -> np.ndarray:
        """Rewards in spreads from their median, within the cutoff."""
        cutoff = self.settings.cutoff
        return rewards if cutoff is None else in_spreads(rewards, self.values, cutoff)

    def _less_baseline(self, rewards: np.ndarray) -> np.ndarray:
        mean = float(rewards.mean())
        if self.moving_baseline is None:
            self.moving_baseline = mean
        self.moving_baseline += self.settings.baseline * (mean - self.moving_baseline)
        return rewards - np.float32(self.moving_baseline)
