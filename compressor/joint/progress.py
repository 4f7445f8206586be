"""What is shown while a net trains, on standard error: a bar in a terminal, and a line an epoch."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .trainer import Epoch

__all__ = ["TrainingProgress", "line"]


class TrainingProgress:
    """How far training is; accuracy, reward and latency after every epoch."""

    def __init__(self, epochs: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("epoch {task.fields[epoch]} of {task.total}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=600,
        )
        self._task = self._bar.add_task("training", total=epochs, epoch=1)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, epoch: int, share: float) -> None:
        """A share (0..1) of an epoch, counted from 0, is done."""
        self._bar.update(self._task, completed=epoch + share, epoch=epoch + 1)

    def epoch(self, row: Epoch) -> None:
        """An epoch is over."""
        self._bar.update(self._task, completed=row.epoch)
        self.note(line(row, self._epochs))

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def line(row: Epoch, epochs: int) -> str:
    """One epoch in words."""
    parts = [f"epoch {row.epoch}/{epochs} ({row.phase}): loss {row.loss:.3f}, accuracy {100 * row.accuracy:.2f} %"]
    if row.reward is not None:
        parts.append(f"reward {100 * row.reward:.2f} %")
    if row.ratio is not None:
        parts.append(f"at {row.ratio:.3f}x")
    parts.append(f"{row.seconds:.0f} s")
    return ", ".join(parts)
