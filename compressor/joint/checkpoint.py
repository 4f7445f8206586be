"""Where a training stands after an epoch, on disk: whole or not at all."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from ...errors import RunError
from ..files import write_whole

__all__ = ["load", "pack", "save", "unpack"]

FORMAT = 1


def pack(state: dict[str, Any]) -> bytes:
    """Tensors, numbers, texts, and lists and dicts of them as bytes."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    return buffer.getvalue()


def unpack(content: bytes, device: torch.device) -> dict[str, Any]:
    """What `pack` was given; nothing that could run is read.

    Raises:
        ValueError: another version wrote it; what torch raises where it is damaged.
    """
    state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise ValueError("another version wrote it")
    return state


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(path, pack(state))


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """What `save` wrote.

    Raises:
        RunError: it cannot be read, or another version wrote it.
    """
    try:
        return unpack(path.read_bytes(), device)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"checkpoint {path} cannot be read ({reason}): start afresh without --resume") from error
