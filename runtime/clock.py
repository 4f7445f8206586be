"""Which clock tells the truth: CPU time of the calling thread where one thread does the work, wall time otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from .device import Device

__all__ = ["Clock", "clock_for"]

_COARSEST_TICK_NS = 10_000
_LONGEST_TICK_NS = 50_000_000
_TICKS = 8


@dataclass(frozen=True)
class Clock:
    """A source of nanoseconds."""

    name: str
    """`thread-cpu` or `wall`."""
    now_ns: Callable[[], int]


_WALL = Clock("wall", time.perf_counter_ns)
_THREAD_CPU = Clock("thread-cpu", time.thread_time_ns)


def clock_for(device: Device) -> Clock:
    """The clock for measuring on `device`.

    On one CPU thread the work happens in the thread that calls, so its CPU time leaves out what other processes took;
    wall time on a busy machine does not. With more threads or another processor the calling thread only waits, and
    wall time is all there is. So it is where the system counts CPU time in ticks too coarse to see an inference.
    """
    alone = device.name == "cpu" and device.threads == 1 and not device.parallel
    return _THREAD_CPU if alone and thread_tick_ns() <= _COARSEST_TICK_NS else _WALL


@cache
def thread_tick_ns() -> int:
    """Smallest step of the thread's CPU clock in nanoseconds, found by waiting for it.

    `time.get_clock_info` gives the unit, which on Windows (100 ns) is not the step (15.6 ms). A single step may hold an
    interrupt, which counts as the thread's, so the smallest of several is it.
    """
    return min(_next_tick_ns() for _ in range(_TICKS))


def _next_tick_ns() -> int:
    patience = time.perf_counter_ns() + _LONGEST_TICK_NS
    start = last = time.thread_time_ns()
    while (last := time.thread_time_ns()) == start and time.perf_counter_ns() < patience:
        pass
    return last - start if last > start else _LONGEST_TICK_NS
