"""Facts about this machine and its onnxruntime that every measurement is recorded with."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import onnxruntime

__all__ = [
    "available_providers",
    "cpu_name",
    "known_providers",
    "onnxruntime_release",
    "pinned",
    "platform_name",
    "processors",
]

# On some boards /proc/cpuinfo names only a part number, and the device tree names the board.
_DEVICE_TREE = Path("/sys/firmware/devicetree/base/model")
_CPUINFO = Path("/proc/cpuinfo")
# A hypervisor may hide the marketing name, so the numbers that tell two generations apart are kept beside it.
_CPUINFO_NUMBERS = ("cpu family", "model", "stepping", "CPU implementer", "CPU part")


def onnxruntime_release() -> str:
    """Version of the installed onnxruntime, e.g. `1.31.1`."""
    return onnxruntime.__version__


def available_providers() -> tuple[str, ...]:
    """Execution providers that the installed onnxruntime was built with, in its order of preference."""
    return tuple(onnxruntime.get_available_providers())


def known_providers() -> tuple[str, ...]:
    """Every execution provider that this onnxruntime release knows by name, built in or not."""
    return tuple(onnxruntime.get_all_providers())


@cache
def platform_name() -> str:
    """Operating system, its release and the architecture, in one string."""
    return platform.platform()


@cache
def cpu_name() -> str:
    """Model of the CPU, precise enough to key a cache of latencies."""
    if _CPUINFO.is_file():
        return _describe_cpuinfo(_CPUINFO.read_text(encoding="utf-8", errors="replace")) or platform.machine()
    if platform.system() == "Darwin":
        answer = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        if answer.stdout.strip():
            return answer.stdout.strip()
    return platform.processor() or platform.machine()


def processors() -> frozenset[int] | None:
    """Numbers of the processors that this thread may run on; None where the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def usable_cores() -> int:
    """How many processors this process may use: fewer than there are in a container, or under taskset."""
    return len(processors() or ()) or os.cpu_count() or 1


@contextmanager
def pinned(processor: int | None) -> Iterator[None]:
    """Binds the calling thread to a processor for a while; with None it stays free."""
    if processor is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _describe_cpuinfo(text: str) -> str:
    """The name and the numbers of the first CPU in the text of /proc/cpuinfo; the board's name where there is none."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or fields.get("Hardware") or fields.get("Model") or ""
    if not name and _DEVICE_TREE.is_file():
        name = _DEVICE_TREE.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    numbers = ", ".join(f"{key} {fields[key]}" for key in _CPUINFO_NUMBERS if fields.get(key))
    return f"{name} ({numbers})".strip() if numbers else name
