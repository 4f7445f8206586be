"""Every hyper-parameter of joint training, with its default and where that comes from.

The paper itself was not at hand. Sources, as docs/training.md tells them:

- `P`: the authors say so (abstract, or what they published);
- `S`: a reproduction or a table by somebody else;
- `ours`: chosen here.

`ortrim train` makes a flag of every field.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any

from ...errors import InputError

__all__ = ["AGENTS", "Settings", "flag", "options"]

AGENTS = ("sac", "random")


def _given(default: Any, source: str, text: str) -> Any:  # noqa: ANN401 (as dataclasses.field)
    """A field with its source (`P`, `S` or `ours`) and a line of help."""
    return field(default=default, metadata={"source": source, "help": text})


@dataclass(frozen=True)
class Settings:
    """How to train. Lengths of phases are shares of the epochs, so that `epochs` scales the schedule."""

    epochs: int = _given(200, "S", "Passes over the training images.")
    warm_up: float = _given(0.05, "S", "Share of the epochs that train weights alone, at first (10 of 200).")
    fill: float = _given(0.05, "S", "Share that then fills the replay buffer with uniform actions (10 of 200).")
    joint: float = _given(0.35, "S", "Share that then trains weights and agent (70 of 200); the rest trains weights.")
    batch: int = _given(128, "ours", "Images a step.")
    rate: float = _given(0.1, "S", "Learning rate of SGD.")
    momentum: float = _given(0.9, "S", "Momentum of SGD.")
    decay: float = _given(5e-4, "S", "Weight decay.")
    first_drop: float = _given(0.5, "S", "Share of the epochs after which the rate falls.")
    second_drop: float = _given(0.75, "S", "Share after which it falls again.")
    drop: float = _given(0.1, "ours", "What the rate is multiplied with when it falls.")
    beta: float = _given(2e-5, "S", "Weight of the alignment of weights to the chosen channels (1e-5 to 2e-5).")
    episodes: int = _given(10, "S", "Plans that the agent tries in an epoch.")
    agent_updates: int = _given(200, "S", "Gradient steps of the agent in a joint epoch.")
    decoder_updates: int = _given(100, "S", "Gradient steps of the representation in an epoch.")
    embedding: int = _given(128, "S", "Width of the epochs' embeddings and of the recurrent net.")
    decoder_rate: float = _given(1e-3, "S", "Adam's learning rate for embeddings, recurrent net and decoder.")
    decoder_batch: int = _given(64, "ours", "Episodes that a gradient step of the representation looks at.")
    actor_rate: float = _given(1e-4, "S", "Adam's learning rate for the actor.")
    critic_rate: float = _given(1e-3, "S", "Adam's learning rate for the critics.")
    alpha: float = _given(0.1, "S", "Temperature of the soft actor-critic, fixed; rewards are in spreads.")
    discount: float = _given(0.99, "ours", "Discount of the soft actor-critic.")
    tau: float = _given(0.01, "ours", "Share of the way that target critics follow at a gradient step.")
    agent_batch: int = _given(64, "ours", "Transitions that a gradient step of the agent looks at.")
    replay_episodes: int | None = _given(None, "ours", "Episodes that the replay buffer holds; all by default.")
    reward_cutoff: float = _given(3.0, "ours", "Spreads from the median at which the agent cuts rewards off.")
    hidden: int = _given(300, "S", "Width of both hidden layers of actor and critics.")
    bn_batches: int = _given(20, "S", "Batches that BatchNormalization is re-estimated on before a reward.")
    reward: int | None = _given(None, "S", "Images held out of training for the reward; a tenth by default.")
    agent: str = _given("sac", "S", "What proposes plans: sac, or random as a control.")
    prune: bool = _given(True, "P", "Whether to prune; without it the net is trained normally, as a control.")
    representation: bool = _given(True, "P", "Whether the agent knows the epoch (ablation).")
    alignment: bool = _given(True, "P", "Whether weights are drawn to the chosen channels (ablation).")
    hard: bool = _given(True, "ours", "Whether the channels that go are off for good once the agent has ended.")
    augment: bool = _given(True, "ours", "Whether images are shifted by up to an eighth and mirrored.")

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            InputError: naming the flag.
        """
        for item in options():
            value = getattr(self, item.name)
            if value is not None and not math.isfinite(value):
                raise InputError(f"{flag(item.name)} {value}: a finite number is needed")
        least = 4 if self.prune else 1
        if self.epochs < least:
            why = ": one for each phase" if self.prune else ""
            raise InputError(f"--epochs {self.epochs}: at least {least} needed{why}")
        for name in ("warm_up", "fill", "joint", "first_drop", "second_drop", "drop", "discount", "tau"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{flag(name)} is a share between 0 and 1, got {getattr(self, name):g}")
        if self.warm_up + self.fill + self.joint > 1:
            raise InputError("--warm-up, --fill and --joint are shares of the epochs, and together more than all")
        for name in ("rate", "decoder_rate", "actor_rate", "critic_rate", "drop", "tau", "reward_cutoff"):
            if not getattr(self, name) > 0:
                raise InputError(f"{flag(name)} should be above 0, got {getattr(self, name):g}")
        for name in ("momentum", "decay", "beta", "alpha", "agent_updates", "decoder_updates"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{flag(name)} should not be below 0, got {getattr(self, name):g}")
        counts = ("episodes", "embedding", "hidden", "bn_batches", "reward", "decoder_batch", "agent_batch")
        for name in (*counts, "replay_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{flag(name)} should be at least 1, got {value}")
        if self.batch < 2:
            raise InputError(f"--batch {self.batch}: BatchNormalization needs at least two images a step")
        if self.agent not in AGENTS:
            raise InputError(f"unknown agent {self.agent!r}: there are {' and '.join(AGENTS)}")

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)


def flag(name: str) -> str:
    """The flag of a field that is a number."""
    return f"--{name.replace('_', '-')}"


def options() -> Iterator[Field[Any]]:
    """The fields that are numbers, for a command line."""
    return (item for item in fields(Settings) if item.name != "agent" and not isinstance(item.default, bool))
