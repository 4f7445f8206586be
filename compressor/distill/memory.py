"""How many images a training step can hold."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

__all__ = ["STEP_MEMORY", "saved_bytes"]

STEP_MEMORY = 4 * 2**30
"""Bytes that a step may keep for its backward pass. 128 images of a segmentation net take several times as much."""


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
