"""Remote devices by name, with what it takes to reach them: `devices.toml` in the user's configuration folder.

[pi]
url = "https://pi.local:8765"      # or a list of devices of one kind
token-file = "~/.config/ortrim/pi.token"
ca = "~/.config/ortrim/pi.pem"     # certificate that the device's is signed with, or its own
patience = 120                     # seconds without an answer until it counts as lost
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DeviceSpecError

__all__ = ["Access", "access_to", "named_addresses", "read_token"]

_FIELDS = {"url", "token-file", "ca", "patience"}
_PATIENCE = 60.0


@dataclass(frozen=True)
class Access:
    """How to reach a service."""

    address: str
    token: str | None = None
    ca: Path | None = None
    """Certificates to trust instead of the system's."""
    patience: float = _PATIENCE
    """Seconds without an answer until the device counts as lost."""


def named_addresses(name: str) -> tuple[str, ...]:
    """The addresses of the device that the configuration knows by that name; none where it knows no such device.

    Raises:
        DeviceSpecError: a configuration that cannot be read.
    """
    entry = _entries().get(name)
    return () if entry is None else _urls(name, entry)


def access_to(address: str) -> Access:
    """How to reach the service at an address: by the configuration where it lists it, else by the environment.

    `ORTRIM_TOKEN` is the token of devices without a token file, `ORTRIM_PATIENCE` the patience with all.

    Raises:
        DeviceSpecError: a configuration or a token file that cannot be read.
    """
    entry: Mapping[str, Any] = {}
    for name, found in _entries().items():
        if address in (url.rstrip("/").lower() for url in _urls(name, found)):
            entry = found
            break
    token_file, ca = entry.get("token-file"), entry.get("ca")
    return Access(
        address,
        read_token(None if token_file is None else Path(token_file).expanduser()),
        None if ca is None else Path(ca).expanduser(),
        _seconds(os.environ.get("ORTRIM_PATIENCE", entry.get("patience", _PATIENCE))),
    )


def read_token(path: Path | None) -> str | None:
    """The token in a file, or else in `ORTRIM_TOKEN`. Never from the command line, which every user can read.

    Raises:
        DeviceSpecError: a file that cannot be read, or an empty token.
    """
    if path is None:
        return os.environ.get("ORTRIM_TOKEN", "").strip() or None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceSpecError(f"token file {path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not token:
        raise DeviceSpecError(f"token file {path} is empty")
    if not token.isascii() or not token.isprintable():
        raise DeviceSpecError(f"token file {path}: a token is one line of plain characters")
    return token


def _path() -> Path:
    if named := os.environ.get("ORTRIM_CONFIG"):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ortrim" / "devices.toml"


def _entries() -> Mapping[str, Mapping[str, Any]]:
    """Name -> entry of every device that is configured."""
    path = _path()
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeviceSpecError(f"device configuration {path}: {error}") from error
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not set(entry) <= _FIELDS or "url" not in entry:
            raise DeviceSpecError(
                f"device configuration {path}: [{name}] has url, and may have {', '.join(sorted(_FIELDS - {'url'}))}"
            )
    return entries


def _urls(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    urls = entry["url"] if isinstance(entry["url"], list) else [entry["url"]]
    if not urls or not all(isinstance(url, str) for url in urls):
        raise DeviceSpecError(f"device configuration {_path()}: url of [{name}] is http://HOST:PORT, or a list of such")
    return tuple(urls)


def _seconds(value: object) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise DeviceSpecError(f"patience with a device should be a number of seconds, not {value!r}")
    return seconds
