"""Where the seconds of a search go."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["Tally"]


class Tally:
    """Seconds by what they were spent on, in the order in which it first came up."""

    def __init__(self, known: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(known or {})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count these too."""
        for name, more in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + more

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Counts what is done inside, if it succeeds."""
        started = time.perf_counter()
        yield
        self.add({name: time.perf_counter() - started})
