"""Who is measured when: one job at a time, in the order of asking."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from .child import Child, ChildLostError, ChildTimeoutError
from .protocol import Task
from .store import Key, Store

__all__ = ["BusyError", "Job", "Jobs", "Patience"]

log = logging.getLogger(__name__)

_MOST_WAITING = 256
_MOST_RESULT_BYTES = 2**25
_TRIES = 2
"""A worker that was killed may have been killed for another's sake; a model that kills two of them is to blame."""


class BusyError(Exception):
    """So many jobs wait that another is not taken."""


@dataclass(frozen=True)
class Patience:
    """How many seconds things may take."""

    job: float
    """A measurement; the worker is ended after that."""
    client: float = 60.0
    """From one sign of a client to its next; its jobs are dropped after that."""
    result: float = 600.0
    """Results are kept that long, for a client that lost its connection and asks again."""


@dataclass(eq=False)
class Job:
    """One task on its way."""

    id: str
    task: Task
    keys: tuple[Key, ...]
    """The files that it needs."""
    state: str = "queued"
    """queued, running or done."""
    answer: bytes = b""
    """What the worker said, once it is done: JSON with `result` or `error`; empty of a job that was dropped."""
    seen: float = field(default_factory=time.monotonic)
    """When its client last asked."""
    ended: float = 0.0
    waiters: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def keep_alive(self) -> None:
        """Its client is there."""
        self.seen = time.monotonic()


class Jobs:
    """The queue, the job that runs and the results that are kept."""

    def __init__(self, store: Store, child: Child, patience: Patience) -> None:
        self._store, self._child, self._patience = store, child, patience
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: list[Job] = []
        self._running: Job | None = None
        self._measuring: asyncio.Task[bytes] | None = None
        self._wake = asyncio.Event()

    def get(self, job_id: str) -> Job | None:
        """The job of that id, if it is known."""
        return self._jobs.get(job_id)

    def place(self, job: Job) -> int:
        """How many jobs are before this one."""
        if job not in self._queue:
            return 0
        return self._queue.index(job) + (self._running is not None)

    @property
    def waiting(self) -> int:
        """Jobs that are queued or running."""
        return len(self._queue) + (self._running is not None)

    def submit(self, job: Job) -> None:
        """Puts a job at the end of the queue, its files safe from eviction.

        Raises:
            BusyError: there are too many.
        """
        if len(self._queue) >= _MOST_WAITING:
            raise BusyError
        self._store.pin(job.keys)
        self._jobs[job.id] = job
        self._queue.append(job)
        self._wake.set()

    def drop(self, job: Job) -> None:
        """Forgets a job; if it is running, the worker is ended."""
        self._jobs.pop(job.id, None)
        if job in self._queue:
            self._queue.remove(job)
            self._store.unpin(job.keys)
            job.state = "done"
            job.done.set()
        elif job is self._running and self._measuring is not None:
            self._measuring.cancel()

    async def run(self) -> None:
        """Measures for ever."""
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            job = self._queue.pop(0)
            job.state, self._running = "running", job
            self._measuring = asyncio.create_task(self._measure(job))
            await asyncio.wait([self._measuring])
            if not self._measuring.cancelled():
                error = self._measuring.exception()
                if error is not None:  # the queue has to go on, whatever nobody foresaw in one job
                    log.error("job %s failed", job.id, exc_info=error)
                job.answer = self._measuring.result() if error is None else _failed(f"internal error: {error!r}")
            job.state, job.ended, self._running, self._measuring = "done", time.monotonic(), None, None
            self._store.unpin(job.keys)
            job.done.set()

    async def tidy(self) -> None:
        """Drops what nobody asks for any more, for ever."""
        while True:
            await asyncio.sleep(min(1.0, self._patience.client / 4))
            now = time.monotonic()
            for job in list(self._jobs.values()):
                if job.state != "done" and not job.waiters and now - job.seen > self._patience.client:
                    log.warning("job %s dropped: its client is gone", job.id)
                    self.drop(job)
            done = [job for job in self._jobs.values() if job.state == "done"]
            size = sum(len(job.answer) for job in done)
            for job in sorted(done, key=lambda job: job.ended):
                if now - job.ended > self._patience.result or size > _MOST_RESULT_BYTES:
                    size -= len(job.answer)
                    self._jobs.pop(job.id, None)

    async def _measure(self, job: Job) -> bytes:
        message = {"task": job.task.to_dict()}
        how = ""
        for _ in range(_TRIES):
            try:
                return (await self._child.ask(message, self._patience.job)).text
            except ChildTimeoutError:
                return _failed(f"the measurement took more than {self._patience.job:g} s and was ended (--job-seconds)")
            except ChildLostError as error:
                how = str(error)
                log.warning("the measuring process ended (%s) at job %s", how, job.id)
        return _failed(f"the measuring process ended {_TRIES} times at this model ({how})")


def _failed(message: str) -> bytes:
    return json.dumps({"error": {"kind": "DeviceError", "message": message}}).encode()
