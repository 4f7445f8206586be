"""What to measure on: `Device.parse("cpu:threads=1")` and the conditions that are recorded with every result.

A spec is `NAME[:OPTION[,OPTION...]]`. NAME is an execution provider without its `ExecutionProvider`, in lower case
(`cpu`, `cuda`, `tensorrt`, `openvino`, `directml`, ...). An option is a bare integer (the index of the device) or
`KEY=VALUE`: the keys of `_SETTINGS` belong to the session, all others are handed to the provider. `http://HOST:PORT` is
a measuring service on another machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from ..errors import DeviceError, DeviceSpecError
from . import host

__all__ = ["Device", "require_local"]

_ALIASES = {"directml": "dml"}
_OPTIMIZATION = ("all", "extended", "basic", "disable")
_SETTINGS = "threads=N, spinning=0|1, opt=all|extended|basic|disable, denormals=keep|flush"
_MOST_THREADS = 1024
_NUMBER = re.compile(r"[0-9]{1,4}\Z")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.]*\Z")
_REMOTE = "remote"


@dataclass(frozen=True)
class Device:
    """One way to run a model: an execution provider and the settings of its sessions. `str(device)` parses back."""

    name: str
    """Provider in lower case without `ExecutionProvider`, or `remote`."""
    index: int | None = None
    """Which of several devices of this kind; None leaves it to the provider."""
    threads: int | None = None
    """Threads inside an operator; None is onnxruntime's default, one for each physical core."""
    spinning: bool = False
    """Whether idle threads spin. Off, because on a busy machine spinning threads take the time they wait for."""
    optimization: str = "all"
    """Graph optimisation level: all, extended, basic or disable."""
    flush_denormals: bool = False
    """Whether denormal numbers count as zero. Off, because sessions are opened without it by default."""
    options: tuple[tuple[str, str], ...] = ()
    """Provider options, sorted by key."""
    address: str | None = None
    """`http://HOST:PORT` of a remote device."""

    @staticmethod
    def parse(spec: str) -> Device:
        """The device that `spec` names.

        Raises:
            DeviceSpecError: an unknown name, a malformed option, or a provider that the installed onnxruntime lacks.
        """
        if not isinstance(spec, str) or not spec.strip():
            raise DeviceSpecError(f"device {spec!r}: give a name such as cpu:threads=1; available: {_available()}")
        spec = spec.strip()
        if "://" in spec:
            return Device(_REMOTE, address=_parse_address(spec))
        name, colon, rest = spec.partition(":")
        provider_name = _provider_name(name, spec)
        if provider_name not in _provider_names(host.available_providers()):
            provider = _provider_names(host.known_providers())[provider_name]
            raise DeviceSpecError(
                f"device {spec!r}: the installed onnxruntime {host.onnxruntime_release()} has no {provider};"
                f" available: {_available()}"
            )
        return _with_options(provider_name, rest.split(",") if colon else [], spec)

    def __str__(self) -> str:
        if self.address is not None:
            return self.address
        parts = [] if self.index is None else [str(self.index)]
        parts += [] if self.threads is None else [f"threads={self.threads}"]
        parts += ["spinning=1"] if self.spinning else []
        parts += [] if self.optimization == "all" else [f"opt={self.optimization}"]
        parts += ["denormals=flush"] if self.flush_denormals else []
        parts += [f"{key}={value}" for key, value in self.options]
        return f"{self.name}:{','.join(parts)}" if parts else self.name

    @property
    def is_remote(self) -> bool:
        """Whether the device is a measuring service on another machine."""
        return self.address is not None

    @property
    def provider(self) -> str:
        """Full name of the execution provider, e.g. `CPUExecutionProvider`.

        Raises:
            DeviceError: a remote device.
            DeviceSpecError: a name that `parse` would have refused.
        """
        require_local(self)
        return _provider_names(host.known_providers())[_provider_name(self.name, str(self))]

    def describe(self) -> dict[str, str | int | bool | None]:
        """The conditions under which this device measures, for the record: plain values that JSON can hold.

        Raises:
            DeviceError: a remote device.
        """
        return {
            "spec": str(self),
            "provider": self.provider,
            "onnxruntime": host.onnxruntime_release(),
            "cpu": host.cpu_name(),
            "threads": self.threads,
            "spinning": self.spinning,
            "optimization": self.optimization,
            "flush_denormals": self.flush_denormals,
            "platform": host.platform_name(),
        }


def require_local(device: Device) -> None:
    """What measures asks this first. Behind the same functions a remote device will be asked to measure for itself.

    Raises:
        DeviceError: a remote device.
    """
    if device.is_remote:
        raise DeviceError(
            f"device {device}: measuring on a remote device is not supported yet; use a device of this machine"
        )


@cache
def _provider_names(providers: tuple[str, ...]) -> dict[str, str]:
    """Short name -> full name of execution providers."""
    return {provider.removesuffix("ExecutionProvider").lower(): provider for provider in providers}


def _available() -> str:
    return ", ".join(sorted(_provider_names(host.available_providers()))) + ", http://HOST:PORT"


def _provider_name(name: str, spec: str) -> str:
    """The canonical short name."""
    lower = name.strip().lower()
    lower = _ALIASES.get(lower, lower)
    if lower not in _provider_names(host.known_providers()):
        raise DeviceSpecError(f"device {spec!r}: there is no device {name!r}; available: {_available()}")
    return lower


def _with_options(name: str, parts: list[str], spec: str) -> Device:
    """The device `name` with the options of a spec."""
    given: dict[str, str] = {}
    for part in (part.strip() for part in parts):
        key, equals, value = part.partition("=")
        if _NUMBER.match(part):
            key, value = "", str(int(part))
        elif not equals or not value or not _KEY.match(key):
            raise DeviceSpecError(f"device {spec!r}: option {part!r} is neither a device index nor KEY=VALUE")
        if key in given:
            raise DeviceSpecError(f"device {spec!r}: {key or 'the device index'} is given twice")
        given[key] = value
    device = Device(
        name,
        index=int(given.pop("")) if "" in given else None,
        threads=_threads(given.pop("threads"), spec) if "threads" in given else None,
        spinning=_one_of(given.pop("spinning", "0"), "spinning", ("0", "1"), spec) == "1",
        optimization=_one_of(given.pop("opt", "all"), "opt", _OPTIMIZATION, spec),
        flush_denormals=_one_of(given.pop("denormals", "keep"), "denormals", ("keep", "flush"), spec) == "flush",
        options=tuple(sorted(given.items())),
    )
    if name == "cpu" and device.index is not None:
        raise DeviceSpecError(
            f"device {spec!r}: cpu takes no device index; for threads write cpu:threads={device.index}"
        )
    if name == "cpu" and device.options:
        raise DeviceSpecError(f"device {spec!r}: cpu has no option {device.options[0][0]!r}; it knows {_SETTINGS}")
    return device


def _one_of(value: str, key: str, allowed: tuple[str, ...], spec: str) -> str:
    if value not in allowed:
        raise DeviceSpecError(f"device {spec!r}: {key}={value} should be one of {', '.join(allowed)}")
    return value


def _threads(value: str, spec: str) -> int:
    if not (_NUMBER.match(value) and 1 <= int(value) <= _MOST_THREADS):
        raise DeviceSpecError(f"device {spec!r}: threads={value} should be a number from 1 to {_MOST_THREADS}")
    return int(value)


def _parse_address(spec: str) -> str:
    """`scheme://host:port`, in lower case."""
    shown = re.sub("//.*@", "//", spec)  # a password does not belong here, nor into a log
    fault = f"device {shown!r}: a remote device is http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(spec)
        hostname, port = parts.hostname, parts.port
    except ValueError as error:
        raise DeviceSpecError(f"{fault} ({error})") from error
    rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if parts.scheme not in ("http", "https") or not hostname or not port or any(rest):
        raise DeviceSpecError(fault)
    return f"{parts.scheme}://[{hostname}]:{port}" if ":" in hostname else f"{parts.scheme}://{hostname}:{port}"
