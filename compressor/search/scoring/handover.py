"""How processes of this machine are given what they all begin with.

What `multiprocessing` starts a process with goes through a pipe that the parent holds open at both ends: where the
process dies before it has read everything, as one does that imports a script without `if __name__ == "__main__":`, the
parent waits forever for room in it. So processes start with a ticket, which is small, and ask.
"""

from __future__ import annotations

import secrets
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from typing import Any

__all__ = ["Handover", "Ticket"]


@dataclass(frozen=True)
class Ticket:
    """What a process needs in order to ask."""

    address: Any = field(repr=False)
    """As `multiprocessing.connection` takes it."""
    key: bytes = field(repr=False)

    def redeem(self) -> Any:  # noqa: ANN401 (whatever was handed over)
        """The object.

        Raises:
            OSError, EOFError: the process that hands it over has gone.
        """
        with Client(self.address, authkey=self.key) as there:
            return there.recv()


class Handover:
    """Gives one object to every process that shows a ticket, until it is closed."""

    def __init__(self, value: object, waiting: int) -> None:
        """
        Args:
            waiting: processes that may ask at a time.
        """
        self._value = value  # pickled for each that asks: it may take as much memory again
        key = secrets.token_bytes(32)
        # Of Linux: a name that no file has, so that nothing is left of it, however this process ends.
        address = f"\0ortrim-{secrets.token_hex(16)}" if sys.platform == "linux" else None
        self._listener = Listener(address, backlog=waiting, authkey=key)
        self.ticket = Ticket(self._listener.address, key)
        self.given = 0
        """How often it was given."""
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="handover", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give it to nobody any more."""
        self._closed = True
        with suppress(OSError, EOFError):
            Client(self.ticket.address, authkey=self.ticket.key).close()  # the thread waits for somebody to ask
        self._thread.join()

    def _serve(self) -> None:
        with self._listener:
            while not self._closed:
                try:
                    with self._listener.accept() as there:
                        there.send(self._value)
                        self.given += not self._closed
                except (OSError, EOFError, AuthenticationError):
                    continue  # whoever asked has died, or had no ticket
