from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from ortrim.runtime.service.child import Answer, ChildLostError, ChildTimeoutError
from ortrim.runtime.service.jobs import BusyError, Job, Jobs, Patience
from ortrim.runtime.service.protocol import Task
from ortrim.runtime.service.store import Store


class Scripted:
    """A worker that does what its tasks say, by their seeds: how long it takes, or how it ends."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.at_once = 0
        self.ended = 0

    async def ask(self, message, _seconds) -> Answer:
        seed = message["task"]["seed"]
        self.asked.append(seed)
        self.at_once += 1
        assert self.at_once == 1
        try:
            await asyncio.sleep(60 if seed == 9 else 0.01)
        finally:
            self.at_once -= 1
        if seed == 7:
            raise ChildTimeoutError
        if seed == 8 or (seed == 6 and self.asked.count(6) == 1):
            raise ChildLostError("signal 9, Killed")
        if seed == 5:
            raise RuntimeError("nobody foresaw this")
        return Answer(json.dumps({"result": seed}).encode(), {})


@pytest.fixture
def played(tmp_path):
    """Runs a scene against a queue."""

    def play(scene, patience=None) -> Scripted:
        async def on_stage() -> Scripted:
            child = Scripted()
            jobs = Jobs(Store(tmp_path, 100, 1000), child, patience or Patience(5.0))
            tasks = [asyncio.create_task(jobs.run()), asyncio.create_task(jobs.tidy())]
            try:
                async with asyncio.timeout(10):
                    await scene(jobs)
            finally:
                for task in tasks:
                    assert not task.done()
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
            return child

        return asyncio.run(on_stage())

    return play


def _job(number: int, seed: int | None = None) -> Job:
    return Job(f"{number:032x}", Task("measure", ("a" * 64,), seed=number if seed is None else seed), ())


def test_one_after_the_other_in_order(played):
    async def scene(jobs):
        made = [_job(number) for number in range(4)]
        for job in made:
            jobs.submit(job)
        await asyncio.sleep(0)
        assert [jobs.place(job) for job in made] == [0, 1, 2, 3]
        for number, job in enumerate(made):
            await job.done.wait()
            assert json.loads(job.answer) == {"result": number}
            assert jobs.place(job) == 0

    assert played(scene).asked == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("seed", "said", "tries"),
    [(7, "took more than 5 s", 1), (8, "ended 2 times at this model (signal 9", 2), (5, "nobody foresaw this", 1)],
)
def test_failures_are_told_and_the_next_job_runs(played, seed, said, tries):
    async def scene(jobs):
        bad, good = _job(0, seed), _job(1)
        jobs.submit(bad)
        jobs.submit(good)
        await good.done.wait()
        assert said in json.loads(bad.answer)["error"]["message"]
        assert json.loads(good.answer) == {"result": 1}

    assert played(scene).asked == [seed] * tries + [1]


def test_a_worker_that_was_killed_is_asked_again(played):
    async def scene(jobs):
        job = _job(0, 6)
        jobs.submit(job)
        await job.done.wait()
        assert json.loads(job.answer) == {"result": 6}

    assert played(scene).asked == [6, 6]


def test_jobs_that_nobody_wants_are_dropped(played):
    async def scene(jobs):
        running, waiting, last = _job(0, 9), _job(1), _job(2)
        for job in (running, waiting, last):
            jobs.submit(job)
        await asyncio.sleep(0.05)
        jobs.drop(waiting)
        jobs.drop(running)
        await last.done.wait()
        assert jobs.get(running.id) is jobs.get(waiting.id) is None
        assert running.done.is_set()
        assert waiting.done.is_set()

    assert played(scene).asked == [9, 2]


def test_jobs_of_clients_that_are_gone_are_dropped_and_results_expire(played):
    async def scene(jobs):
        gone, watched = _job(0, 9), _job(1)
        watched.waiters = 1
        jobs.submit(gone)
        jobs.submit(watched)
        await watched.done.wait()
        assert jobs.get(gone.id) is None
        assert jobs.get(watched.id) is watched
        await asyncio.sleep(0.4)
        assert jobs.get(watched.id) is None

    played(scene, Patience(job=5.0, client=0.1, result=0.2))


def test_the_queue_has_an_end(played):
    async def scene(jobs):
        for number in range(256):
            jobs.submit(_job(number))
        with pytest.raises(BusyError):
            jobs.submit(_job(256))

    played(scene)
