"""TensorBoard logs of a training, where they are asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from ...errors import InputError
from .trainer import Epoch

__all__ = ["TensorBoard"]


class TensorBoard(AbstractContextManager["TensorBoard"]):
    """One scalar a figure and epoch.

    Raises:
        InputError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError("--tensorboard needs tensorboard: pip install 'ortrim[tensorboard]'") from error
        self._writer = SummaryWriter(str(folder))

    def epoch(self, row: Epoch) -> None:
        """Log what an epoch brought."""
        for name, value in asdict(row).items():
            if name != "epoch" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, row.epoch)
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()
