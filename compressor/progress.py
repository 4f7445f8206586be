"""What a job shows while it runs, on standard error: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["SearchProgress", "TuningProgress"]


class SearchProgress:
    """Evaluations done, the best mark so far with its latency, and the time left.

    Example:
        with SearchProgress(200) as progress:
            progress.update(1, best=0.91, ratio=0.598)
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        *,
        console: Console | None = None,
        interval: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            total: evaluations in all.
            done: evaluations that an earlier process made.
            console: where to show; standard error by default.
            interval: seconds between two lines where there is no terminal.
            clock: seconds; for tests.
        """
        self._total = total
        self._first = done
        self._interval = interval
        self._clock = clock
        self._console = console or Console(stderr=True)
        self._bar = self._make_bar() if self._console.is_terminal else None
        self._task = TaskID(0)
        self._start = self._last_line = clock()

    def __enter__(self) -> Self:
        self._start = self._last_line = self._clock()
        if self._bar is not None:
            self._task = self._bar.add_task("search", total=self._total, completed=self._first, best=_best(None, None))
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, best: float | None = None, ratio: float | None = None) -> None:
        """Show where the search is.

        Args:
            done: evaluations so far, an earlier process's included.
            best: mark in [0, 1] of the best candidate that meets the target (see `score.Scorer.mark`); None while there
                is none.
            ratio: its latency as a share of the original's.
        """
        if self._bar is not None:
            self._bar.update(self._task, completed=done, best=_best(best, ratio))
            return
        now = self._clock()
        if done >= self._total or now - self._last_line >= self._interval:
            self._last_line = now
            self._say(f"search {done}/{self._total}, {_best(best, ratio)}{self._time_left(done, now)}")

    def note(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _make_bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            # A search alternates cheap and dear evaluations: a short window would make the estimate jump.
            TimeRemainingColumn(),
            console=self._console,
            speed_estimate_period=600,
        )

    def _time_left(self, done: int, now: float) -> str:
        fresh = done - self._first
        if fresh <= 0 or done >= self._total:
            return ""
        seconds = (now - self._start) / fresh * (self._total - done)
        return f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"


class TuningProgress:
    """How far fine-tuning is, its loss and the best mark."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("fine-tuning"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}, best mark {task.fields[best]:.2f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("fine-tuning", total=1.0, loss=0.0, best=0.0)

    def __enter__(self) -> Self:
        """The bar appears when there is something to show: helping processes of torchrun never have it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: float, loss: float, mark: float | None, best: float) -> None:
        """Show where it is.

        Args:
            done: share of the schedule, 0..1.
            loss: of the last steps.
            mark: by the held-out images, in [0, 1], where they were just asked (see `score.Scorer.mark`).
            best: the best mark so far.
        """
        self._bar.start()
        self._bar.update(self._task, completed=done, loss=loss, best=100 * best)
        if not self._console.is_terminal and mark is not None:
            text = f"fine-tuning {100 * done:.0f} %: loss {loss:.3f}, mark {100 * mark:.2f} %"
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _best(best: float | None, ratio: float | None) -> str:
    if best is None:
        return "none meets the target yet"
    at = "" if ratio is None else f" at {ratio:.3f}x"
    return f"best mark {100 * best:.2f} %{at}"
