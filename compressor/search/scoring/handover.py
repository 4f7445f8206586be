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
from hmac import compare_digest
from multiprocessing.connection import Client, Listener
from typing import Any

__all__ = ["Handover", "Ticket"]

_PATIENCE_S = 10.0
"""For whoever asks to show a ticket."""
_BYTES = 32


@dataclass(frozen=True)
class Ticket:
    """What a process needs in order to ask.

    Each side shows the other a secret, over a socket that no third one can read: other users of the machine may find
    it. (The keys of `multiprocessing.connection` would do the same by MD5, which machines under FIPS rules refuse.)
    """

    address: Any = field(repr=False)
    """As `multiprocessing.connection` takes it."""
    shown: bytes = field(repr=False)
    """By the process that asks."""
    answered: bytes = field(repr=False)
    """By the one that gives: nothing is unpickled before."""

    def redeem(self) -> Any:  # noqa: ANN401 (whatever was handed over)
        """The object.

        Raises:
            OSError, EOFError: the process that hands it over has gone, or does not know this ticket.
        """
        with Client(self.address) as there:
            there.send_bytes(self.shown)
            if not compare_digest(there.recv_bytes(_BYTES), self.answered):
                raise ConnectionRefusedError("somebody else answers at the address of this ticket")
            return there.recv()


class Handover:
    """Gives one object to every process that shows a ticket, until it is closed."""

    def __init__(self, value: object, waiting: int) -> None:
        """
        Args:
            waiting: processes that may ask at a time.
        """
        self._value = value  # pickled for each that asks: it may take as much memory again
        # Of Linux: a name that no file has, so that nothing is left of it, however this process ends.
        address = f"\0ortrim-{secrets.token_hex(16)}" if sys.platform == "linux" else None
        self._listener = Listener(address, backlog=waiting)
        self.ticket = Ticket(self._listener.address, secrets.token_bytes(_BYTES), secrets.token_bytes(_BYTES))
        self.given = 0
        """How often it was given."""
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="handover", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give it to nobody any more."""
        self._closed = True
        with suppress(OSError, EOFError):
            Client(self.ticket.address).close()  # the thread waits for somebody to ask
        self._thread.join()

    def _serve(self) -> None:
        with self._listener:
            while not self._closed:
                with suppress(OSError, EOFError):  # whoever asked has died, or says what is no ticket
                    self._answer()

    def _answer(self) -> None:
        with self._listener.accept() as there:
            if there.poll(_PATIENCE_S) and compare_digest(there.recv_bytes(_BYTES), self.ticket.shown):
                there.send_bytes(self.ticket.answered)
                there.send(self._value)
                self.given += 1
