"""The weights' side: one epoch of SGD, aligned to the chosen channels, or with the others off for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import JobError
from ...graph.torch_module import OnnxModule
from ..data import Dataset
from ..distill.loader import Loader
from ..mixed import MixedPrecision
from ..parallel import World
from .alignment import Alignment
from .masks import Masks, Removal
from .settings import Settings

__all__ = ["Learned", "Weights", "placed"]


@dataclass(frozen=True)
class Learned:
    """How an epoch went, as means over its steps (of several processes, this one's)."""

    loss: float
    """Cross-entropy, without the alignment."""
    penalty: float
    """Norm of what is to go, before it is multiplied with beta."""
    accuracy: float
    """Top-1 on the training images as they were seen."""


class Weights:
    """SGD on the weights of one module."""

    def __init__(
        self,
        module: OnnxModule,
        training: Dataset,
        settings: Settings,
        seed: int,
        world: World,
        precision: MixedPrecision,
    ) -> None:
        self._module, self._settings, self._device, self._precision = module, settings, world.device, precision
        self._shared = world.wrap(module)
        part, batch = world.part(training), world.batch(settings.batch)
        self.loader = Loader(part, batch, augment=settings.augment, seed=seed + world.rank)
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(
            self._parameters, settings.rate, settings.momentum, weight_decay=settings.decay
        )

    def epoch(
        self,
        number: int,
        rate: float,
        *,
        masks: Masks | None = None,
        aligned: Removal | None = None,
        off: Removal | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Learned:
        """One pass over the training images.

        Args:
            number: of the epoch, from 0; the images come in the same order whenever it is asked for.
            aligned: draw the weights to the net without these units.
            off: keep these units off.
            progress: told the share of the epoch that is done.

        Raises:
            JobError: the loss is no longer a number.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        alignment = Alignment(masks, self._module, aligned) if masks is not None and aligned else None
        cuts = masks.cuts(off) if masks is not None and off else []
        if masks is not None:
            masks.zero(cuts)
        self._shared.train()
        steps = self.loader.steps_per_epoch
        losses, penalties, right, seen = torch.zeros((), device=self._device), 0.0, 0, 0
        for step, images in enumerate(islice(self.loader.after(number * steps), steps)):
            (values,) = images.inputs.values()
            assert images.labels is not None
            inputs = placed(values, self._device)
            labels = images.labels.to(self._device)
            with self._precision():
                said = self._shared(inputs)
            loss = nn.functional.cross_entropy(said.float(), labels)
            whole = loss
            if alignment is not None:
                penalty = alignment.penalty()
                whole = loss + self._settings.beta * penalty
                penalties += float(penalty.detach())
            self._precision.step(whole, self.optimizer)
            if masks is not None:
                masks.zero(cuts)
            losses += loss.detach()
            right += int((said.detach().argmax(dim=1) == labels).sum())
            seen += len(labels)
            if progress is not None:
                progress((step + 1) / steps)
        mean = float(losses) / steps
        if not mean < float("inf"):
            raise JobError(f"the loss of epoch {number + 1} is not a number: a smaller --rate may help")
        return Learned(mean, penalties / steps, right / seen)

    def state(self) -> dict[str, Any]:
        """All that decides how it goes on."""
        return {"module": dict(self._module.state_dict()), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])


def placed(images: Tensor, device: torch.device) -> Tensor:
    """On the device, the channels of pictures last: convolutions of a CPU and of tensor cores want it so."""
    return images.to(device, memory_format=torch.channels_last if images.ndim == 4 else torch.preserve_format)
