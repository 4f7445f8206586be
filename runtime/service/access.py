"""Who may call the service: asked before a request's body is read, so that strangers cost nothing."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Access", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Access:
    """Lets requests through that bring the token; without a token, those of programs on this machine.

    A browser is no such program: a page from anywhere may make it send requests to loopback. It tells on itself by
    `Origin`, or by a `Host` that is a name of that page's making.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = None if token is None else _digest(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = None
        if "origin" in headers:
            refusal = JSONResponse({"error": "requests of web pages are refused"}, 403)
        elif self._token is not None:
            if not self._is_known(headers.getlist("authorization")):
                refusal = JSONResponse(
                    {"error": "the token is missing or wrong"}, 401, headers={"WWW-Authenticate": "Bearer"}
                )
        elif not is_loopback(_without_port(headers.get("host", ""))):
            refusal = JSONResponse({"error": "without a token only requests to loopback are answered"}, 403)
        await (refusal or self._app)(scope, receive, send)

    def _is_known(self, given: Iterable[str]) -> bool:
        """Compared in constant time, and as hashes: neither the place of a difference nor a length shows."""
        values = list(given)
        if len(values) != 1 or not values[0].startswith("Bearer "):
            return False
        assert self._token is not None
        return hmac.compare_digest(_digest(values[0].removeprefix("Bearer ")), self._token)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _without_port(host: str) -> str:
    return host.partition("]")[0] if host.startswith("[") else host.partition(":")[0]
