"""How many images a training step can hold."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

__all__ = ["STEP_MEMORY", "saved_bytes"]

STEP_MEMORY = {"cpu": 2**29, "cuda": 2**32}
"""Bytes that a step may keep for its backward pass, by kind of device. 128 images of a segmentation net take many times
as much; and a CPU is slower at what its caches cannot hold: one core of an EPYC (Zen 5, bfloat16, other jobs beside it)
taught MobileNetV2 39 images a second by 8 at a time (0.4 GiB), 32 by 32 and 24 by 48."""


def saved_bytes(module: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """What a forward pass over `inputs` keeps for the backward one, in bytes; its weights do not count."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
        # The result holds the graph, and so every storage: none is used twice while this runs.
        result = module(inputs)
    del result
    return sum(kept.values())
