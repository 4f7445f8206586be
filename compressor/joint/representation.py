"""What the agent knows of the epoch: a representation that has to predict the rewards it has seen.

The same plan is worth more in a later epoch, and the order of plans changes, since the weights move. As in RLAL (CVPR
2024) every epoch has a learnable embedding, a recurrent net reads those of the epochs up to now, and its last state z
is what the agent's actor and critics are conditioned on. A decoder of (state, action, z) predicts rewards; embeddings,
recurrent net and decoder learn together, from the squared error of the rewards observed so far. (z is computed with
gradients: without, as in a reproduction, the recurrent net would stay as it began.)

Where the paper, as far as we know it, leaves things open:

1. A reward belongs to a whole episode, so the decoder's outputs are averaged over the episode's steps, and that is
   compared with it.
2. An epoch's embedding begins as that of the epoch before it: an agent asks about an epoch before it has any reward.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..search.agents.learning import one_thread, perceptron

__all__ = ["Representation"]


class Representation:
    """Of the epochs 0..epochs - 1."""

    def __init__(
        self, epochs: int, state_size: int, *, size: int = 128, rate: float = 1e-3, batch: int = 64, seed: int = 0
    ) -> None:
        """
        Args:
            state_size: entries of one state.
            size: of embeddings and z; the width of the decoder too.
            rate: Adam's learning rate.
            batch: episodes that one gradient step looks at.
        """
        self.size, self.batch = size, batch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(epochs, size)
            self.recurrent = nn.GRU(size, size, batch_first=True)
        self.generator = torch.Generator().manual_seed(seed)
        self.decoder = perceptron(state_size + 1 + size, size, self.generator)
        self._parts = nn.ModuleList([self.embedding, self.recurrent, self.decoder])
        self.steps = torch.optim.Adam(self._parts.parameters(), rate, fused=True)
        self._epochs: list[int] = []
        self._walked: list[Tensor] = []
        self._rewards: list[float] = []

    def begin(self, epoch: int) -> None:
        """Start an epoch that nothing is known of from the one before it."""
        if epoch > 0:
            with torch.no_grad():
                self.embedding.weight[epoch] = self.embedding.weight[epoch - 1]

    def contexts(self, epoch: int) -> np.ndarray:
        """z of every epoch up to this one, (epoch + 1, size)."""
        with one_thread(), torch.no_grad():
            return self._contexts(epoch).numpy()

    def _contexts(self, epoch: int) -> Tensor:
        """z (epoch + 1, size), with gradients."""
        states, _ = self.recurrent(self.embedding.weight[None, : epoch + 1])
        return states[0]

    def observe(self, epoch: int, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """Remember an episode: states (steps, state_size), actions (steps,), and the reward that it got."""
        self._epochs.append(epoch)
        self._walked.append(torch.from_numpy(np.concatenate([states, actions[:, None]], axis=1).astype(np.float32)))
        self._rewards.append(reward)

    def learn(self, updates: int) -> float:
        """Gradient steps on all episodes so far; the mean squared error over the last tenth of them."""
        if not self._rewards or not updates:
            return 0.0
        epochs, walked, rewards = torch.tensor(self._epochs), torch.stack(self._walked), torch.tensor(self._rewards)
        last = max(self._epochs)
        errors = []
        with one_thread():
            for _ in range(updates):
                at = torch.randint(len(rewards), (self.batch,), generator=self.generator)
                predicted = self._decoded(walked[at], self._contexts(last)[epochs[at]])
                error = nn.functional.mse_loss(predicted, rewards[at])
                self.steps.zero_grad()
                error.backward()
                self.steps.step()
                errors.append(float(error.detach()))
        tail = errors[-max(1, updates // 10) :]
        return sum(tail) / len(tail)

    def predict(self, epoch: int, states: np.ndarray, actions: np.ndarray) -> float:
        """The reward that it expects of an episode."""
        walked = torch.from_numpy(np.concatenate([states, actions[:, None]], axis=1).astype(np.float32))
        with one_thread(), torch.no_grad():
            return float(self._decoded(walked[None], self._contexts(epoch)[-1:]))

    def _decoded(self, walked: Tensor, contexts: Tensor) -> Tensor:
        """Rewards (n,) of episodes (n, steps, state_size + 1) in epochs with these z (n, size)."""
        beside = contexts[:, None].expand(-1, walked.shape[1], -1)
        return self.decoder(torch.cat([walked, beside], dim=2)).mean(dim=(1, 2))

    # -- what is kept ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that decides how it goes on."""
        return {
            "parts": self._parts.state_dict(),
            "steps": self.steps.state_dict(),
            "generator": self.generator.get_state(),
            "epochs": list(self._epochs),
            "walked": list(self._walked),
            "rewards": list(self._rewards),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._parts.load_state_dict(state["parts"])
        self.steps.load_state_dict(state["steps"])
        self.generator.set_state(state["generator"].cpu())
        # A checkpoint is read onto the device that the weights train on; all of this lies on the CPU.
        self._walked = [walked.cpu() for walked in state["walked"]]
        self._epochs, self._rewards = list(state["epochs"]), list(state["rewards"])
