"""The endpoints of the service.

GET    /health                 that it is there, and how many jobs it has
GET    /device                 the conditions that it measures under
HEAD   /models/{sha256}        200 where it is kept, 404 where not; /inputs/{sha256} alike
PUT    /models/{sha256}        takes it in
POST   /jobs?wait=S            {"version", "id", "task"}; 409 {"missing"} where a file has to be sent first
GET    /jobs/{id}?wait=S       its place in the queue, or its result; answers at most S seconds later
DELETE /jobs/{id}              nobody wants it any more
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..device import Device
from .access import Access
from .child import Child, ChildLostError, ChildTimeoutError
from .jobs import BusyError, Job, Jobs, Patience
from .protocol import DIGEST, JOB_ID, VERSION, BadTaskError, Task
from .store import Key, RefusedError, Store, StoreFullError, TooLargeError

__all__ = ["Limits", "build_app"]

log = logging.getLogger(__name__)

_LARGEST_MESSAGE = 2**20
_LONGEST_WAIT = 30.0
_CHUNK_SECONDS = 30.0
"""From one piece of a body to the next."""
_CHECK_SECONDS = 120.0
_UPLOADS = 16
"""At once; each holds a piece of a body in memory."""
_RETRY_AFTER = {"Retry-After": "1"}


@dataclass(frozen=True)
class Limits:
    """How much the service takes and keeps."""

    model_mb: int = 512
    store_mb: int = 2048
    memory_mb: int = 4096
    """Of the measuring process, and of the one that checks uploads."""
    job_seconds: float = 600.0
    client_seconds: float = 60.0


class Service:
    """What the endpoints share."""

    def __init__(self, device: Device, folder: Path, limits: Limits) -> None:
        self.device, self.limits = device, limits
        self.store = Store(folder, limits.model_mb * 2**20, limits.store_mb * 2**20)
        spec, place = str(device), self.store.folder
        self._measuring = Child("measuring", spec, place, limits.memory_mb)
        self._checking = Child("checking", spec, place, limits.memory_mb)
        self.jobs = Jobs(self.store, self._measuring, Patience(limits.job_seconds, limits.client_seconds))
        self._uploads = asyncio.Semaphore(_UPLOADS)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """From start to end of the server."""
        tasks = [asyncio.create_task(work) for work in (self.jobs.run(), self.jobs.tidy(), self._warm_up())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._measuring.end()
            await self._checking.end()

    async def _warm_up(self) -> None:
        """Starts the processes before somebody waits for them."""
        for child in (self._measuring, self._checking):
            try:
                await child.start()
            except (ChildLostError, ChildTimeoutError) as error:
                log.warning("a process did not start (%s)", error or "it took too long")

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": VERSION, "jobs": self.jobs.waiting})

    async def describe(self, _request: Request) -> Response:
        limits = {"job_seconds": self.limits.job_seconds, "model_mb": self.limits.model_mb}
        return JSONResponse({"version": VERSION, "device": self.device.describe(), "limits": limits})

    async def find(self, request: Request) -> Response:
        return Response(status_code=200 if self.store.has(_key(request)) else 404)

    async def upload(self, request: Request) -> Response:
        key = _key(request)
        most = self.limits.model_mb * 2**20
        announced = request.headers.get("content-length", "")
        if not announced.isdecimal():
            raise HTTPException(411, "say how long it is")
        if int(announced) > most:
            raise HTTPException(413, f"larger than {self.limits.model_mb} MB (--max-model-mb)")
        if self._uploads.locked():
            raise HTTPException(503, "too many uploads at once", _RETRY_AFTER)
        async with self._uploads:
            try:
                await self.store.receive(key, _pieces(request), self._fault_in)
            except TooLargeError as error:
                raise HTTPException(413, f"larger than {self.limits.model_mb} MB (--max-model-mb)") from error
            except StoreFullError as error:
                raise HTTPException(503, "no room: all that is kept is in use", _RETRY_AFTER) from error
            except RefusedError as error:
                raise HTTPException(422, str(error)) from error
        return Response(status_code=201)

    async def submit(self, request: Request) -> Response:
        if request.headers.get("content-type") != "application/json":
            raise HTTPException(415, "a job is application/json")
        message = await _json(request)
        if not isinstance(message, dict) or message.get("version") != VERSION:
            raise HTTPException(400, f"the service speaks version {VERSION} of the protocol: install the same ortrim")
        job_id = message.get("id")
        if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
            raise HTTPException(400, "id should be 32 hexadecimal digits")
        job = self.jobs.get(job_id)
        if job is None:
            try:
                task = Task.from_dict(message.get("task"))
            except BadTaskError as error:
                raise HTTPException(400, str(error)) from error
            most = self.limits.job_seconds
            if task.least_seconds > most:
                raise HTTPException(422, f"asks for {task.least_seconds:g} s; {most:g} are allowed (--job-seconds)")
            keys = _keys(task)
            if missing := [list(key) for key in keys if not self.store.has(key)]:
                return JSONResponse({"missing": missing}, 409)
            job = Job(job_id, task, keys)
            try:
                self.jobs.submit(job)
            except BusyError as error:
                raise HTTPException(503, "too many jobs are waiting", _RETRY_AFTER) from error
        return await self._state(job, request)

    async def ask(self, request: Request) -> Response:
        return await self._state(self._job(request), request)

    async def drop(self, request: Request) -> Response:
        self.jobs.drop(self._job(request))
        return Response(status_code=204)

    def _job(self, request: Request) -> Job:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            raise HTTPException(404, "no such job")
        return job

    async def _state(self, job: Job, request: Request) -> Response:
        """The job as it is when it is done, or when the client has waited as long as it wanted."""
        job.keep_alive()
        job.waiters += 1
        try:
            end = time.monotonic() + _wait(request)
            while not job.done.is_set() and (left := end - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(job.done.wait(), min(left, 1.0))
                if await request.is_disconnected():
                    raise ClientDisconnect
                job.keep_alive()
        finally:
            job.waiters -= 1
        if job.state != "done":
            return JSONResponse({"state": job.state, "before": self.jobs.place(job)})
        if not job.answer:
            raise HTTPException(404, "the job was dropped")
        return Response(b'{"state": "done", "answer": ' + job.answer + b"}", media_type="application/json")

    async def _fault_in(self, kind: str, path: Path) -> str | None:
        """What the checking process says of an upload. One that kills it is refused."""
        try:
            answer = (await self._checking.ask({"check": kind, "path": str(path)}, _CHECK_SECONDS)).fields
        except (ChildLostError, ChildTimeoutError) as error:
            return f"checking it failed ({error or 'it took too long'})"
        return answer["error"]["message"] if "error" in answer else answer["result"]


def build_app(device: Device, folder: Path, limits: Limits, token: str | None) -> Starlette:
    """The application.

    Args:
        folder: where it keeps everything.
        token: what clients have to know; None where only this machine can reach it.

    Raises:
        OutputError: the folder cannot be written.
    """
    service = Service(device, folder, limits)
    routes = [
        Route("/health", service.health, methods=["GET"]),
        Route("/device", service.describe, methods=["GET"]),
        Route("/jobs", service.submit, methods=["POST"]),
        Route("/jobs/{id}", service.ask, methods=["GET"]),
        Route("/jobs/{id}", service.drop, methods=["DELETE"]),
        Route("/{kind:str}/{sha256}", service.find, methods=["HEAD"]),
        Route("/{kind:str}/{sha256}", service.upload, methods=["PUT"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=service.lifespan,
        middleware=[Middleware(Access, token=token)],
        exception_handlers={HTTPException: _refuse, ClientDisconnect: _nobody},
    )
    app.router.redirect_slashes = False  # what is nearly a path is none
    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def _key(request: Request) -> Key:
    kind, digest = request.path_params["kind"], request.path_params["sha256"]
    if kind not in ("models", "inputs"):
        raise HTTPException(404, "no such place")
    if not DIGEST.fullmatch(digest):
        raise HTTPException(400, "a file is named by its SHA-256 in hexadecimal, lower case")
    return kind, digest


def _keys(task: Task) -> tuple[Key, ...]:
    """The files that a task needs."""
    models = [("models", digest) for digest in dict.fromkeys(task.models)]
    return (*models, *([("inputs", task.inputs)] if task.inputs else []))


def _wait(request: Request) -> float:
    try:
        wanted = float(request.query_params.get("wait", "0"))
    except ValueError as error:
        raise HTTPException(400, "wait should be a number of seconds") from error
    if not math.isfinite(wanted):
        raise HTTPException(400, "wait should be a number of seconds")
    return min(max(wanted, 0.0), _LONGEST_WAIT)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes in; a client that stops sending is given up."""
    stream = request.stream()
    while True:
        try:
            piece = await asyncio.wait_for(anext(stream), _CHUNK_SECONDS)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise HTTPException(408, "the body stopped coming") from error
        yield piece


async def _json(request: Request) -> Any:  # noqa: ANN401 (whatever JSON holds)
    body = bytearray()
    async for piece in _pieces(request):
        body += piece
        if len(body) > _LARGEST_MESSAGE:
            raise HTTPException(413, "the message is too long")
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the message is no JSON") from error
