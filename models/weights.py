"""State dict files: read without running what is in them, and loaded whole or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from ..errors import InputError, ModelError

__all__ = ["load_weights", "read_state"]

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts keep the state dict beside the optimizer's."""
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.", "aux_classifier.")
"""Heads that torchvision's nets have in training only: published weights hold them, the traced nets do not."""


def load_weights(module: nn.Module, path: Path) -> None:
    """Copy the file's weights into `module`, all of them.

    Raises:
        ModelError: the file is missing or is no state dict.
        InputError: a name or a shape does not fit.
    """
    own = module.state_dict()
    state = {name: value for name, value in read_state(path).items() if name in own or not name.startswith(AUXILIARY)}
    # files from before torch 0.4.1 lack BatchNorm's counter, which inference does not read
    missing = sorted(name for name in own.keys() - state.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(state.keys() - own.keys())
    if missing or unexpected:
        found = [
            f"{len(names)} {what} ({names[0]})"
            for names, what in ((missing, "missing"), (unexpected, "unknown"))
            if names
        ]
        raise InputError(f"{path} does not fit {type(module).__name__}: {' and '.join(found)}")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise InputError(
                f"{path} does not fit {type(module).__name__}: {name} is {tuple(value.shape)} in the file and "
                f"{tuple(own[name].shape)} in the net; a factory of your own can build it to size"
            )
    module.load_state_dict(state, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, without the `module.` that data-parallel training puts before every name.

    Raises:
        ModelError: the file is missing or is no state dict.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the weights: {error.strerror or error}") from error
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: not a state dict that torch can load without running code from it") from error
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ModelError(f"{path}: holds no state dict (a mapping from parameter names to tensors)")
    return {str(name).removeprefix("module."): value for name, value in loaded.items()}
