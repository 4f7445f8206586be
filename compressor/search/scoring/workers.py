"""Who scores: this process, or several of this machine."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

from ....errors import JobError
from ..space import Widths
from .handover import Handover, Ticket
from .maker import Failed, Maker, Scored

__all__ = ["Here", "Processes", "Workers"]

Judged = TypeVar("Judged")

ATTEMPTS = 3
"""How often a candidate is tried whose process dies."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Workers(Protocol):
    """Builds several candidates at a time, and judges them."""

    jobs: int
    """How many."""
    maker: Maker
    """What does it, for use in this process."""

    def score(self, plans: Sequence[Widths]) -> list[Scored | Failed]:
        """The candidates of these plans, in their order; nothing computes any more when this returns.

        Raises:
            JobError: a process that scores died again and again.
        """
        ...

    def errors(self, plans: Sequence[Widths]) -> list[float]:
        """`Maker.error` of these plans, likewise.

        Raises:
            JobError: as of `score`.
        """
        ...

    def close(self) -> None:
        """Let go of processes."""
        ...


class Here:
    """This process."""

    jobs = 1

    def __init__(self, maker: Maker) -> None:
        self.maker = maker

    def score(self, plans: Sequence[Widths]) -> list[Scored | Failed]:
        return [self.maker(plan) for plan in plans]

    def errors(self, plans: Sequence[Widths]) -> list[float]:
        return [self.maker.error(plan) for plan in plans]

    def close(self) -> None:
        """There is nothing to let go of."""


class Processes:
    """Processes of this machine; one that dies is replaced, and its candidate tried again."""

    def __init__(self, maker: Maker, jobs: int) -> None:
        self.maker, self.jobs = maker, jobs
        self._pool: ProcessPoolExecutor | None = None
        self._handover: Handover | None = None

    def score(self, plans: Sequence[Widths]) -> list[Scored | Failed]:
        return self._each(_score, plans)

    def errors(self, plans: Sequence[Widths]) -> list[float]:
        return self._each(_error, plans)

    def _each(self, judge: Callable[[Widths], Judged], plans: Sequence[Widths]) -> list[Judged]:
        begun = 0
        for _ in range(ATTEMPTS):
            self._handover = self._handover or Handover(self.maker, self.jobs)
            self._pool = self._pool or self._open(self._handover.ticket)
            try:
                with _one_thread_each():  # workers are started as they are needed
                    return list(self._pool.map(judge, plans))
            except BrokenProcessPool:
                begun += self._handover.given
                self.close()
        if not begun:
            raise JobError(
                "processes that score candidates die as they start: each imports the script that calls ortrim, which "
                f'should do so below `if __name__ == "__main__":` where it asks for {self.jobs} jobs (if it does, '
                "memory is short: ask for fewer)"
            )
        raise JobError(
            f"a process that scores candidates died {ATTEMPTS} times in a row, perhaps for want of memory: "
            f"try fewer --jobs than {self.jobs}"
        )

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        if self._handover is not None:
            self._handover.close()
            self._handover = None

    def _open(self, ticket: Ticket) -> ProcessPoolExecutor:
        # Not forked: onnxruntime and BLAS have threads, which a fork would leave behind with their locks taken.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.jobs, mp_context=context, initializer=_begin, initargs=(ticket,))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are started inside get one BLAS thread each; this one keeps its own."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_maker: Maker | None = None
"""Of a worker process: it is sent once."""


def _begin(ticket: Ticket) -> None:
    global _maker
    _maker = ticket.redeem()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the process that started this one has gone, however it went: nobody is left to read an answer.

    The pool's queue does not tell, since the other workers hold its ends as well.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker was started by a process"
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _score(plan: Widths) -> Scored | Failed:
    assert _maker is not None, "the pool's initializer sets it"
    return _maker(plan)


def _error(plan: Widths) -> float:
    assert _maker is not None, "the pool's initializer sets it"
    return _maker.error(plan)
