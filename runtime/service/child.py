"""A worker process from the outside: started when needed, asked one thing at a time, ended when it takes too long."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Child", "ChildLostError", "ChildTimeoutError"]

_START_SECONDS = 120.0
"""For importing onnxruntime, which takes a board a while."""
_LONGEST_ANSWER = 2**26


class ChildLostError(Exception):
    """The process ended before it answered; the text says how."""


class ChildTimeoutError(Exception):
    """The process took longer than it may, and was ended."""


@dataclass(frozen=True)
class Answer:
    """A line of a worker."""

    text: bytes
    fields: dict[str, Any]


class Child:
    """One worker, started anew after it ended for whatever reason.

    Args:
        name: `measuring` or `checking`.
        device: spec of the device that it measures on.
        folder: the service's own.
        memory_mb: what it may use.
    """

    def __init__(self, name: str, device: str, folder: Path, memory_mb: int) -> None:
        self._name, self._device, self._folder, self._memory_mb = name, device, folder, memory_mb
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Starts the process, if there is none.

        Raises:
            ChildLostError, ChildTimeoutError: it does not come up.
        """
        async with self._turn:
            try:
                await self._started()
            except BaseException:
                await self.end()
                raise

    async def ask(self, message: dict[str, Any], seconds: float) -> Answer:
        """The worker's answer; questions wait for each other.

        Raises:
            ChildLostError: it ended.
            ChildTimeoutError: it took more than `seconds`.
        """
        async with self._turn:
            try:
                process = await self._started()
                return await self._exchange(process, message, seconds)
            except BaseException:  # also when the one who asked is gone: what is half done is of no use
                await self.end()
                raise

    async def end(self) -> None:
        """Kills the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        # A program of its own and not a fork: nothing of the service is in it, neither sockets nor its token.
        environment = {name: value for name, value in os.environ.items() if name != "ORTRIM_TOKEN"}
        arguments = [self._device, str(self._folder), self._name, str(self._memory_mb)]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__.rpartition(".")[0] + ".worker",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_ANSWER,
            env=environment,
        )
        await _line(self._process, _START_SECONDS)
        return self._process

    async def _exchange(self, process: asyncio.subprocess.Process, message: dict[str, Any], seconds: float) -> Answer:
        assert process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):  # then there is no answer either
            process.stdin.write(json.dumps(message).encode() + b"\n")
            await process.stdin.drain()
        text = await _line(process, seconds)
        try:
            answer = Answer(text, json.loads(text))
        except ValueError as error:
            raise ChildLostError("it answered what is no message") from error
        if answer.fields.get("spent"):
            await self.end()
        return answer


async def _line(process: asyncio.subprocess.Process, seconds: float) -> bytes:
    """The next line that the process writes."""
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), seconds)
    except TimeoutError as error:
        raise ChildTimeoutError from error
    except ValueError as error:  # longer than the stream's limit
        raise ChildLostError("its answer is too long") from error
    if not line.endswith(b"\n"):
        raise ChildLostError(_how_it_ended(await process.wait()))
    return line.rstrip(b"\n")


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {-status}, {signal.strsignal(-status)}"
    except ValueError:
        return f"signal {-status}"
