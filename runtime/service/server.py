"""Runs the service: checks what it was told, listens, and ends cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...errors import DeviceError, DeviceSpecError, InputError
from ..device import Device
from .access import is_loopback
from .app import Limits, build_app
from .config import read_token

__all__ = ["Serving", "default_folder", "serve"]

_CONNECTIONS = 256
_KEEP_ALIVE_S = 75
_GRACE_S = 2
_FIRST_REQUEST_S = 20


@dataclass(frozen=True)
class Serving:
    """What `ortrim serve` was told."""

    device: str = "cpu:threads=1"
    host: str = "127.0.0.1"
    port: int = 8765
    folder: Path | None = None
    token_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    limits: Limits = field(default_factory=Limits)


class _Protocol(H11Protocol):
    """Hangs up on those who connect and then say nothing, or half of a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_FIRST_REQUEST_S, self._hang_up)

    def _hang_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Says where it listens once it does, and ends at a signal without passing the signal on."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            self.should_exit = True

        before = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)


def serve(serving: Serving, say: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        say: is told the address once it is open.

    Raises:
        DeviceSpecError: no such device here, or no token for an address that others can reach.
        DeviceError: the address cannot be opened.
        InputError: certificates or limits that cannot be used.
        OutputError: the folder cannot be written.
    """
    device = Device.parse(serving.device)
    if device.is_remote:
        raise DeviceSpecError(f"--device {serving.device}: a service measures on its own machine")
    token = read_token(serving.token_file)
    if token is None and not is_loopback(serving.host):
        raise DeviceSpecError(
            f"--host {serving.host}: an address that others can reach needs a token: give --token-file or ORTRIM_TOKEN"
        )
    if serving.limits.store_mb < serving.limits.model_mb:
        raise InputError("--store-mb must be at least --max-model-mb")
    _check_certificate(serving)
    app = build_app(device, serving.folder or default_folder(serving.port), serving.limits, token)
    listener = _listen(serving.host, serving.port)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        http=_Protocol,
        ws="none",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=serving.cert,
        ssl_keyfile=serving.key,
    )
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    address = f"{'http' if serving.cert is None else 'https'}://{host}:{listener.getsockname()[1]}"
    logging.getLogger("uvicorn.error").propagate = False
    with contextlib.closing(listener):
        _Server(config, lambda: say(f"{device} is measured at {address}")).run(sockets=[listener])


def default_folder(port: int) -> Path:
    """In the user's cache folder, one for each port."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ortrim" / f"serve-{port}"


def _check_certificate(serving: Serving) -> None:
    if (serving.cert is None) != (serving.key is None):
        raise InputError("--cert and --key belong together")
    if serving.cert is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(serving.cert, serving.key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"--cert {serving.cert}, --key {serving.key}: {error.strerror or error}") from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DeviceError(f"--host {host} --port {port} cannot be opened: {reason}") from error
    # Connections inherit it. An answer goes out in two pieces, and the second would wait 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
