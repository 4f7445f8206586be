"""Several services that measure the same: they take turns, and those that are lost are left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ...errors import DeviceError
from ..device import Device
from .client import Client, client_of

__all__ = ["Pool", "describe"]

log = logging.getLogger(__name__)

_KIND = ("spec", "provider", "onnxruntime", "cpu")
Question = TypeVar("Question")


def describe(device: Device) -> dict[str, Any]:
    """The conditions of a remote device; of a list, those of the first, which the others must share.

    Raises:
        DeviceError: none can be reached, or they are of different kinds.
    """
    return Pool(device).conditions


class Pool:
    """The services of a remote device.

    Raises:
        DeviceError: none can be reached, or they are of different kinds.
    """

    def __init__(self, device: Device) -> None:
        self._clients: list[Client] = []
        self._turn = 0
        self.conditions: dict[str, Any] = {}
        """Of the first service that answered."""
        fault: DeviceError | None = None
        for address in device.addresses:
            client = client_of(address)
            try:
                found = client.describe()
            except DeviceError as error:
                if len(device.addresses) > 1:
                    log.warning("%s; going on without it", error)
                fault = error
                continue
            self.conditions = self.conditions or found
            if any(found[name] != self.conditions[name] for name in _KIND):
                name = next(name for name in _KIND if found[name] != self.conditions[name])
                raise DeviceError(
                    f"devices {self.conditions['address']} and {address} are of different kinds ({name} "
                    f"{self.conditions[name]} and {found[name]}): their latencies cannot be put together"
                )
            self._clients.append(client)
        if not self._clients:
            assert fault is not None
            raise fault

    def run(self, ask: Callable[[Client], Any]) -> Any:  # noqa: ANN401 (whatever is asked for)
        """The answer of the service whose turn it is; where it is lost, of the next.

        Raises:
            DeviceError: all are lost.
        """
        while True:
            client = self._clients[self._turn % len(self._clients)]
            self._turn += 1
            try:
                return ask(client)
            except DeviceError as error:
                self._leave_out(client, error)

    def share(self, questions: Sequence[Question], ask: Callable[[Client, Question], Any]) -> list[Any]:
        """The answer to each question, those of different services at the same time.

        Raises:
            DeviceError: all are lost.
        """
        answers: dict[int, Any] = {}
        while len(answers) < len(questions):
            left = [place for place in range(len(questions)) if place not in answers]
            clients = list(self._clients)
            parts = [left[start :: len(clients)] for start in range(min(len(clients), len(left)))]

            def work(client: Client, places: Sequence[int]) -> DeviceError | None:
                try:
                    for place in places:
                        answers[place] = ask(client, questions[place])
                except DeviceError as error:
                    return error
                return None

            with ThreadPoolExecutor(len(parts)) as threads:
                for client, fault in zip(clients, threads.map(work, clients, parts), strict=False):
                    if fault is not None:
                        self._leave_out(client, fault)
        return [answers[place] for place in range(len(questions))]

    def _leave_out(self, client: Client, error: DeviceError) -> None:
        """Goes on without a service, where there is another."""
        if len(self._clients) == 1:
            raise error
        if client in self._clients:
            log.warning("%s; going on with the other devices", error)
            self._clients.remove(client)
