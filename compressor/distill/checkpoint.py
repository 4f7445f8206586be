"""Where a distillation stands, on disk: whole or not at all."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import RunError
from ..files import write_whole

__all__ = ["Checkpoint"]


@dataclass
class Checkpoint:
    """Everything that decides how it goes on."""

    settings: dict[str, Any]
    """What it was started with; it goes on with the same only."""
    step: int
    seconds: float
    student: dict[str, Any]
    average: dict[str, Any]
    optimizer: dict[str, Any]
    spreads: list[list[float]]
    ceiling: dict[str, Any]
    best: dict[str, Any]
    """Averaged weights with the best score on held-out images."""
    best_score: float
    evaluations: int
    history: list[tuple[int, float]]
    """Steps and score of every evaluation."""

    def save(self, path: Path) -> None:
        """Write it.

        Raises:
            OutputError: it cannot be written.
        """
        buffer = io.BytesIO()
        torch.save(vars(self), buffer)
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, settings: dict[str, Any], device: torch.device) -> Checkpoint:
        """Read what `save` wrote; tensors only, nothing that could run.

        Raises:
            RunError: it cannot be read, or was started with other settings.
        """
        try:
            found = cls(**torch.load(path, map_location=device, weights_only=True))
        except (OSError, RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise RunError(f"checkpoint {path} cannot be read ({str(error).splitlines()[0]}): remove it") from error
        for key, value in settings.items():
            if found.settings.get(key) != value:
                raise RunError(
                    f"checkpoint {path} was made with {key} {found.settings.get(key)!r}, not {value!r}: "
                    "go on with the same settings, or start afresh without --resume"
                )
        return found
