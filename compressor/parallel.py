"""Several processes that train one net, started by torchrun: one leads, the others follow.

The leader does all that a single process does: it scores, looks after an agent, the device and the files, and tells the
others when to train and how. Each trains on its own part of the images, with its part of the batch, and
DistributedDataParallel averages the gradients; statistics of BatchNormalization are those of the leader's part.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import nn

from ..errors import InputError
from .data import Dataset

__all__ = ["World"]

PATIENCE = timedelta(hours=12)
"""How long followers wait for the leader, whose agent may take long over an epoch."""


class World(AbstractContextManager["World"]):
    """The processes of one training; inside, they can reach each other. One process alone needs nobody."""

    def __init__(self, device: str | None = None, *, size: int = 1, rank: int = 0, local: int = 0) -> None:
        """
        Args:
            device: torch's name of what this process trains on; by default its own GPU where there are any.
            size: how many processes there are.
            rank: the number of this one; 0 leads.
            local: its number on its machine, and that of its GPU.

        Raises:
            InputError: fewer GPUs than processes.
        """
        self.size, self.rank = size, rank
        if device is None:
            device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        if self.device.type == "cuda" and (self.device.index or 0) >= torch.cuda.device_count():
            raise InputError(
                f"torchrun started a process for GPU {self.device.index}, and there are {torch.cuda.device_count()}"
            )

    @classmethod
    def of_torchrun(cls, device: str | None = None) -> Self:
        """The processes that torchrun started, as it tells in the environment; one alone where it did not."""
        size, rank, local = (
            int(os.environ.get(*item)) for item in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
        )
        return cls(device, size=size, rank=rank, local=local)

    @property
    def follows(self) -> bool:
        """Whether this process helps another."""
        return self.rank > 0

    def __enter__(self) -> Self:
        if self.size > 1:
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            try:
                dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", timeout=PATIENCE)
            except ValueError as error:
                raise InputError(
                    f"WORLD_SIZE is {self.size}, and the processes cannot find each other ({error}): start them with "
                    "torchrun, or unset WORLD_SIZE"
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    def share(self, value: Any = None) -> Any:  # noqa: ANN401 (whatever is shared)
        """What the leader shares; followers wait for it, and what they pass does not count."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def part(self, images: Dataset) -> Dataset:
        """This process's images; all parts are of the same size."""
        if self.size == 1:
            return images
        return images.subset(range(self.rank, len(images) - len(images) % self.size, self.size))

    def batch(self, images: int) -> int:
        """This process's share of a batch.

        Raises:
            InputError: it cannot be shared out evenly.
        """
        if images % self.size or images < 2 * self.size:
            raise InputError(f"--batch {images} cannot be shared out to {self.size} processes, two images or more each")
        return images // self.size

    def wrap(self, module: nn.Module, *, all_used: bool = True) -> nn.Module:
        """The module whose gradients are averaged over all processes.

        Args:
            all_used: whether every parameter has a part in every loss.
        """
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, find_unused_parameters=not all_used)
