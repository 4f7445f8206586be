"""Who proposes plans: soft actor-critic conditioned on the epoch, or a random control.

The searches of `compress` look at a net that stays as it is. Here the reward drifts, and three things differ:

1. The actor and the critics see the epoch's representation beside every state. What the buffer holds of earlier
   epochs is given the representation that those epochs have by now, since embeddings go on learning.
2. A plan may be tried again in another epoch: what it was worth then is old.
3. The first epochs ("fill") take uniform actions, and the agent does not learn yet.
4. In joint epochs it learns when the episodes are over, and after the representation has learned from them: so many
   gradient steps an epoch, as the reproduction counts them, not some after every outcome.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..search.agents import create
from ..search.agents.base import BudgetAgent
from ..search.agents.learning import one_thread
from ..search.agents.sac import SAC
from ..search.agents.sac import Settings as SACSettings
from ..search.reward import reward
from ..search.space import Outcome, Space, Widths
from .offer import Settled
from .representation import Representation
from .schedule import Phase, Schedule
from .settings import Settings

__all__ = ["Policy"]


class EpochSAC(SAC):
    """Soft actor-critic that learns when it is told to, not with every outcome (its settings have no `updates`)."""

    def improve(self, updates: int) -> None:
        """So many gradient steps, on what it remembers."""
        with one_thread():
            for _ in range(updates):
                self._update()


class Policy:
    """One agent over all epochs of a training."""

    def __init__(self, space: Space, correction: Settled, settings: Settings, schedule: Schedule, seed: int) -> None:
        total = (settings.episodes + 1) * schedule.searching
        self._epoch, self._schedule = 0, schedule
        self.representation: Representation | None = None
        if settings.agent == "random":
            agent = create("random", space, total, seed)
            assert isinstance(agent, BudgetAgent)
            self.agent: BudgetAgent = agent
        else:
            context = settings.embedding if settings.representation else 0
            own = SACSettings(
                hidden=settings.hidden,
                actor_rate=settings.actor_rate,
                critic_rate=settings.critic_rate,
                alpha=settings.alpha,
                discount=settings.discount,
                tau=settings.tau,
                batch=settings.agent_batch,
                memory=min(settings.replay_episodes or total, total),
                warm_up=settings.episodes * schedule.filling / total,
                updates=0,
                cutoff=settings.reward_cutoff,
            )
            self.agent = EpochSAC(space, total, seed, own, context_size=context)
            if settings.representation:
                self.representation = Representation(
                    settings.epochs,
                    self.agent.walk.state_size,
                    size=settings.embedding,
                    rate=settings.decoder_rate,
                    batch=settings.decoder_batch,
                    seed=seed,
                )
        self.agent.budget.correction = correction
        self._decoder_updates, self._agent_updates = settings.decoder_updates, settings.agent_updates
        self._epochs: list[int] = []

    def begin(self, epoch: int) -> None:
        """Tell the agent which epoch it is."""
        self._epoch = epoch
        self.agent.known.clear()
        if self.representation is not None:
            assert isinstance(self.agent, SAC)
            self.representation.begin(epoch)
            self._renew(self.agent, self.representation)

    def _renew(self, agent: SAC, representation: Representation) -> None:
        """Give the agent z of this epoch, and each remembered transition z of its own, as they are now."""
        contexts = representation.contexts(self._epoch)
        agent.context = contexts[-1]
        if not self._epochs:
            return
        # A ring: an episode whose place is taken by a later one is forgotten.
        places = len(agent.memory.states) // agent.walk.steps
        held = np.zeros(min(len(self._epochs), places), int)
        for number in range(len(self._epochs) - len(held), len(self._epochs)):
            held[number % places] = self._epochs[number]
        of_each = contexts[np.repeat(held, agent.walk.steps)]
        for states in (agent.memory.states, agent.memory.after):
            states[: len(of_each), agent.walk.state_size :] = of_each

    def ask(self) -> dict[str, int]:
        """A plan to try in this epoch."""
        return self.agent.ask()

    def tell(self, plan: Widths, outcome: Outcome) -> float | None:
        """What came of it; by how much (squared) the representation was wrong about it, if there is one."""
        surprise = None
        if self.representation is not None:
            assert isinstance(self.agent, SAC)
            row = self.agent.space.row(plan)
            states, actions = self.agent.walk.states(row)[:-1], self.agent.walk.actions(row)
            value = reward(outcome, self.agent.space.target)
            surprise = (self.representation.predict(self._epoch, states, actions) - value) ** 2
            self.representation.observe(self._epoch, states, actions, value)
        self.agent.tell(plan, outcome)
        self._epochs.append(self._epoch)
        return surprise

    def learn(self) -> float | None:
        """Let the representation, and then the agent, learn from the epoch's rewards, when all of them are told.

        Returns:
            The representation's squared error after that, if there is one.
        """
        error = None
        if self.representation is not None:
            error = self.representation.learn(self._decoder_updates)
        if isinstance(self.agent, EpochSAC) and self._schedule.phase(self._epoch) is Phase.JOINT:
            if self.representation is not None:
                self._renew(self.agent, self.representation)
            self.agent.improve(self._agent_updates)
        return error

    # -- what is kept ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that decides how it goes on: tensors, numbers and lists of them."""
        agent = self.agent
        kept: dict[str, Any] = {
            "random": agent.rng.bit_generator.state,
            "epochs": list(self._epochs),
            "best": None if agent.best is None else [list(agent.best[0]), agent.best[1].score, agent.best[1].ratio],
        }
        if isinstance(agent, SAC):
            memory = agent.memory
            kept["sac"] = {
                "actor": agent.actor.state_dict(),
                "critics": agent.critics.state_dict(),
                "target_critics": agent.target_critics.state_dict(),
                "actor_steps": agent.actor_steps.state_dict(),
                "critic_steps": agent.critic_steps.state_dict(),
                "generator": agent.generator.get_state(),
                "memory": [torch.from_numpy(array[: memory.count].copy()) for array in _arrays(agent)],
                "count": memory.count,
                "asked": agent.asked,
                "told": agent.told,
                "values": list(agent.values),
            }
        if self.representation is not None:
            kept["representation"] = self.representation.state()
        return kept

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        agent = self.agent
        agent.rng.bit_generator.state = kept["random"]
        self._epochs = list(kept["epochs"])
        if kept["best"] is not None:
            row, score, ratio = kept["best"]
            agent.best = (tuple(row), Outcome(score, ratio))
        if isinstance(agent, SAC):
            own = kept["sac"]
            for name in ("actor", "critics", "target_critics", "actor_steps", "critic_steps"):
                getattr(agent, name).load_state_dict(own[name])
            agent.generator.set_state(own["generator"].cpu())
            agent.memory.count = own["count"]
            for array, values in zip(_arrays(agent), own["memory"], strict=True):
                array[: own["count"]] = values.cpu().numpy()
            agent.asked, agent.told, agent.values = own["asked"], own["told"], list(own["values"])
        if self.representation is not None:
            self.representation.restore(kept["representation"])


def _arrays(agent: SAC) -> tuple[np.ndarray, ...]:
    memory = agent.memory
    return memory.states, memory.after, memory.actions, memory.rewards, memory.final
