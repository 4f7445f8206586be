"""What to measure on: `Device.parse("cpu:threads=1")` and the conditions that are recorded with every result.

A spec is `NAME[:OPTION[,OPTION...]]`. NAME is an execution provider without its `ExecutionProvider`, in lower case
(`cpu`, `cuda`, `tensorrt`, `openvino`, `directml`, ...). An option is a bare integer (the index of the device) or
`KEY=VALUE`: the keys of `_SETTINGS` belong to the session, all others are handed to the provider. `http://HOST:PORT` is
a measuring service on another machine (see `service`), several with commas between them share the measurements, and a
service that the user's configuration lists goes by its name there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from ..errors import DeviceError, DeviceSpecError
from . import host
from .service.config import named_addresses

__all__ = ["Device", "require_local"]

_ALIASES = {"directml": "dml"}
_OPTIMIZATION = ("all", "extended", "basic", "disable")
_MODES = ("sequential", "parallel")
_SETTINGS = (
    "threads=N, affinity=0+1.., spinning=0|1, mode=sequential|parallel, opt=all|extended|basic|disable, arena=0|1, "
    "denormals=keep|flush"
)
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
    affinity: tuple[int, ...] = ()
    """Processors that the threads are bound to, one each, the calling thread to the first; empty leaves it to the
    system."""
    parallel: bool = False
    """Whether operators that do not need each other run at once, on as many threads again."""
    arena: bool = True
    """Whether onnxruntime keeps memory for its next call instead of giving it back."""
    address: str | None = None
    """`http://HOST:PORT` of a remote device."""
    others: tuple[str, ...] = ()
    """Addresses of more devices of the same kind, which share the measurements."""

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
            return _remote(spec.split(","), spec)
        name, colon, rest = spec.partition(":")
        if _is_unknown(name) and (addresses := named_addresses(spec)):
            return _remote(addresses, spec)
        provider_name = _provider_name(name, spec)
        if provider_name not in _provider_names(host.available_providers()):
            provider = _provider_names(host.known_providers())[provider_name]
            raise DeviceSpecError(
                f"device {spec!r}: the installed onnxruntime {host.onnxruntime_release()} has no {provider};"
                f" available: {_available()}"
            )
        return _with_options(provider_name, rest.split(",") if colon else [], spec)

    def __str__(self) -> str:
        if self.is_remote:
            return ",".join(self.addresses)
        parts = [] if self.index is None else [str(self.index)]
        parts += [] if self.threads is None else [f"threads={self.threads}"]
        parts += ["spinning=1"] if self.spinning else []
        parts += [] if self.optimization == "all" else [f"opt={self.optimization}"]
        parts += ["denormals=flush"] if self.flush_denormals else []
        parts += [f"affinity={'+'.join(map(str, self.affinity))}"] if self.affinity else []
        parts += ["mode=parallel"] if self.parallel else []
        parts += [] if self.arena else ["arena=0"]
        parts += [f"{key}={value}" for key, value in self.options]
        return f"{self.name}:{','.join(parts)}" if parts else self.name

    @property
    def is_remote(self) -> bool:
        """Whether the device is a measuring service on another machine."""
        return self.address is not None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of a remote device: all its services."""
        return () if self.address is None else (self.address, *self.others)

    @property
    def provider(self) -> str:
        """Full name of the execution provider, e.g. `CPUExecutionProvider`.

        Raises:
            DeviceError: a remote device.
            DeviceSpecError: a name that `parse` would have refused.
        """
        require_local(self)
        return _provider_names(host.known_providers())[_provider_name(self.name, str(self))]

    def describe(self) -> dict[str, str | int | bool | list[int] | None]:
        """The conditions under which this device measures, for the record: plain values that JSON can hold.

        Those of a remote device are what it says of itself, with its `address`.

        Raises:
            DeviceError: a remote device that cannot be reached, or several of different kinds.
        """
        if self.is_remote:
            from .service.pool import describe  # which needs this module

            return describe(self)
        return {
            "spec": str(self),
            "provider": self.provider,
            "onnxruntime": host.onnxruntime_release(),
            "cpu": host.cpu_name(),
            "threads": self.threads,
            "affinity": list(self.affinity) or None,
            "spinning": self.spinning,
            "mode": _MODES[self.parallel],
            "arena": self.arena,
            "optimization": self.optimization,
            "flush_denormals": self.flush_denormals,
            "platform": host.platform_name(),
        }


def require_local(device: Device) -> None:
    """What runs a model here asks this first: a remote device is asked to measure, and runs nothing for others.

    Raises:
        DeviceError: a remote device.
    """
    if device.is_remote:
        raise DeviceError(f"device {device} is a measuring service, which only measures: use a device of this machine")


@cache
def _provider_names(providers: tuple[str, ...]) -> dict[str, str]:
    """Short name -> full name of execution providers."""
    return {provider.removesuffix("ExecutionProvider").lower(): provider for provider in providers}


def _available() -> str:
    return ", ".join(sorted(_provider_names(host.available_providers()))) + ", http://HOST:PORT"


def _is_unknown(name: str) -> bool:
    """Whether a name is none of onnxruntime's."""
    lower = name.strip().lower()
    return _ALIASES.get(lower, lower) not in _provider_names(host.known_providers())


def _remote(addresses: Sequence[str], spec: str) -> Device:
    """One or more measuring services."""
    first, *others = (_parse_address(address.strip()) for address in addresses)
    if len({first, *others}) <= len(others):
        raise DeviceSpecError(f"device {spec!r}: one of the addresses is there twice")
    return Device(_REMOTE, address=first, others=tuple(others))


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
        affinity=_affinity(given.pop("affinity"), spec) if "affinity" in given else (),
        parallel=_one_of(given.pop("mode", "sequential"), "mode", _MODES, spec) == "parallel",
        arena=_one_of(given.pop("arena", "1"), "arena", ("0", "1"), spec) == "1",
        options=tuple(sorted(given.items())),
    )
    if device.affinity and len(device.affinity) != device.threads:
        count = len(device.affinity)
        raise DeviceSpecError(f"device {spec!r}: affinity names {count} processors: give threads={count} too")
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


def _affinity(value: str, spec: str) -> tuple[int, ...]:
    """`0+2` -> (0, 2)."""
    numbers = value.split("+")
    if not all(map(_NUMBER.match, numbers)) or len({int(number) for number in numbers}) < len(numbers):
        raise DeviceSpecError(f"device {spec!r}: affinity={value} should name different processors, such as 0+1")
    return tuple(map(int, numbers))


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
