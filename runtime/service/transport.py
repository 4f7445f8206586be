"""One service as seen from here: requests over a connection that is kept, made anew with back-off when it breaks."""

from __future__ import annotations

import http.client
import json
import logging
import random
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...errors import DeviceError, DeviceSpecError
from .config import Access

__all__ = ["Reply", "Transport"]

log = logging.getLogger(__name__)

_FIRST_PATIENCE_S = 5.0
"""With a device that has not answered yet: more likely it is not there than that it is coming back."""
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_ANSWER_S = 30.0
"""For a request that does not ask the service to wait."""
_BUSY = (429, 502, 503, 504)
_LARGEST_ANSWER = 2**26
_BROKEN = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Reply:
    """What a service answered."""

    status: int
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The body, an object in JSON.

        Raises:
            ValueError: it is something else.
        """
        fields = json.loads(self.body)
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        return fields


class Transport:
    """Requests to one service. Every one of them can be repeated without harm, and is."""

    def __init__(self, access: Access) -> None:
        self.address = access.address
        self._access = access
        parts = urlsplit(access.address)
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = _tls(access) if parts.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        self._reached = False

    def request(
        self, method: str, path: str, body: bytes | None = None, *, kind: str = "application/json", wait: float = 0.0
    ) -> Reply:
        """The service's answer, however often it takes to get one.

        Args:
            kind: media type of the body.
            wait: seconds that the service was asked to take.

        Raises:
            DeviceError: no answer within the patience, or one that is no service of ortrim's.
            DeviceSpecError: it refuses the token.
        """
        failing_since: float | None = None
        delay = _FIRST_DELAY_S
        while True:
            reused = self._connection is not None
            try:
                reply = self._once(method, path, body, kind, wait)
            except ssl.SSLCertVerificationError as error:
                raise DeviceSpecError(
                    f"device {self.address}: its certificate is not trusted ({error.verify_message}); name the one"
                    " that signed it as `ca` in the device configuration"
                ) from error
            except _BROKEN as error:
                reason, fault = _reason(error), error
                if reused and failing_since is None:  # an idle connection that the other side closed: no failure yet
                    failing_since = time.monotonic()
                    continue
            else:
                if reply.status not in _BUSY:
                    self._reached = True
                    return self._accepted(reply)
                reason, fault = f"it is busy: {_said(reply)}", None
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since + delay > self._patience:
                raise self._lost(reason) from fault
            log.info("device %s: %s; trying again", self.address, reason)
            time.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(2 * delay, _LONGEST_DELAY_S)

    def attempt(self, method: str, path: str) -> None:
        """A request that nobody depends on, tried once."""
        self.close()
        try:
            self._once(method, path, None, "application/json", wait=2.0 - _ANSWER_S)
        except _BROKEN as error:
            log.debug("device %s: %s", self.address, error)
        self.close()

    def close(self) -> None:
        """Lets go of the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @property
    def _patience(self) -> float:
        return self._access.patience if self._reached else min(self._access.patience, _FIRST_PATIENCE_S)

    def _lost(self, reason: str) -> DeviceError:
        if not self._reached:
            return DeviceError(f"device {self.address} cannot be reached ({reason}): is `ortrim serve` running there?")
        patience, self._reached = self._patience, False
        return DeviceError(
            f"device {self.address} was lost: no answer for {patience:g} s ({reason}); `ortrim compress` goes on with"
            " --resume when it is back"
        )

    def _once(self, method: str, path: str, body: bytes | None, kind: str, wait: float) -> Reply:
        headers = {"Content-Type": kind, "Accept": "application/json"}
        if self._access.token is not None:
            headers["Authorization"] = f"Bearer {self._access.token}"
        try:
            connection = self._connection = self._connection or self._connect()
            connection.timeout = wait + _ANSWER_S
            if connection.sock is not None:
                connection.sock.settimeout(wait + _ANSWER_S)
            try:
                connection.request(method, path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                # It did not want to hear it all: what it said is worth more than the broken pipe.
                response = connection.getresponse()
            else:
                response = connection.getresponse()
            content = response.read(_LARGEST_ANSWER)
            if not response.isclosed():
                raise http.client.HTTPException("an endless answer")
            if response.will_close:
                self.close()
            return Reply(response.status, content)
        except BaseException:  # also Ctrl-C: what the connection holds is half of something
            self.close()
            raise

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port)

    def _accepted(self, reply: Reply) -> Reply:
        """The reply, unless it says that this is the wrong door."""
        if reply.status == 401:
            raise DeviceSpecError(
                f"device {self.address}: {_said(reply)}; set ORTRIM_TOKEN, or name a token-file in the device"
                " configuration"
            )
        if reply.status == 403:
            raise DeviceSpecError(f"device {self.address}: {_said(reply)}")
        if reply.body:
            try:
                _ = reply.fields
            except ValueError as error:
                raise DeviceError(f"device {self.address}: what answers there is not `ortrim serve`") from error
        return reply


def _tls(access: Access) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=access.ca)
    except (OSError, ssl.SSLError) as error:
        raise DeviceSpecError(f"device {access.address}: ca {access.ca}: {error.strerror or error}") from error


def _reason(error: BaseException) -> str:
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
    return text[:1].lower() + text[1:]


def _said(reply: Reply) -> str:
    try:
        return str(reply.fields.get("error", reply.status))
    except ValueError:
        return f"status {reply.status}"
