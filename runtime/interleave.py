"""The timing loop: sessions take turns in short blocks, in random order, and whole sets of sessions are opened afresh.

Three things are known to bias a comparison of two models (and a repeat here has an answer to each):
- the machine drifts (clock rate, other processes): the blocks of one round lie within some tens of milliseconds, so
  what differs between rounds cancels in the ratio of a round;
- a fixed order favours one of them, or beats in time with the scheduler: the order is drawn anew in every round;
- a session keeps the memory it happened to get: every repeat opens new ones, in random order.
The first calls after another model ran find cold caches (measured: 12 % slower, then 2 %), so a block starts with calls
that are not counted.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from .clock import Clock
from .session import Session
from .statistics import FEWEST_OBSERVATIONS

__all__ = ["Block", "Effort", "Repeat", "Runner", "collect", "play"]

_SHORTEST_SAMPLE_MS = 0.2  # reading the clocks takes about a microsecond: less than half a per cent of this
_MOST_SAMPLES = 24  # of a block; quick models are called several times a sample instead
_KEPT_CORE = 1.05  # wall over CPU time: a turn of another process takes milliseconds, a whole block is tens of them
_SETTLE = ((10.0, 2), (200.0, 1))  # a call shorter than so many milliseconds: so many uncounted calls


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    seconds: float
    """Time to spend, opening and warming sessions included; a guide, since what was begun is finished."""
    precision: float
    """Width of the interval, relative to its median, that is narrow enough to stop."""
    rounds: int
    """Rounds for each set of sessions."""
    block_ms: float
    """Time that a model runs before it is another's turn."""

    def times(self, count: int) -> Effort:
        """The same effort for `count` models."""
        return replace(self, seconds=self.seconds * count)


@dataclass(frozen=True)
class Block:
    """One turn of one model: milliseconds a call, by sample."""

    clock_ms: tuple[float, ...]
    wall_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return float(np.median(self.clock_ms))

    @property
    def mean_ms(self) -> float:
        return float(np.mean(self.clock_ms))

    @property
    def quick_ms(self) -> float:
        """Mean of the quickest quarter."""
        return float(np.mean(np.sort(self.clock_ms)[: ceil(len(self.clock_ms) / 4)]))

    @property
    def kept_core(self) -> bool:
        """Whether hardly any time went by that the clock did not count."""
        return sum(self.wall_ms) <= _KEPT_CORE * sum(self.clock_ms)


Repeat = tuple[tuple[Block, ...], ...]
"""One set of sessions: rounds, in each a block for every model in the order of the models."""


class Runner:
    """A session with its inputs at hand and a notion of how long a call takes."""

    def __init__(self, session: Session, feeds: Mapping[str, np.ndarray], clock: Clock) -> None:
        self.session = session
        self._call = session.bind(feeds)
        self._clock = clock
        self.call_ms = 0.0

    def warm_up(self, seconds: float) -> None:
        """Calls until `seconds` have passed, three times at least (long models: twice); notes how long one takes."""
        end = time.perf_counter() + seconds
        taken: list[float] = []
        with self.session.running():
            while time.perf_counter() < end or len(taken) < 2 or (len(taken) < 3 and taken[-1] < 1000):
                start = self._clock.now_ns()
                self._call()
                taken.append((self._clock.now_ns() - start) / 1e6)
        # The first call allocates; the median of the later half is what calls settle at.
        self.call_ms = max(float(np.median(taken[len(taken) // 2 :])), 1e-4)

    def round_ms(self, block_ms: float) -> float:
        """About how long `block` takes, settling included."""
        calls, samples = self._pace(block_ms)
        return (calls * samples + self._settle()) * self.call_ms

    def block(self, block_ms: float) -> Block:
        """About `block_ms` milliseconds of calls, after some that are not counted."""
        calls, samples = self._pace(block_ms)
        clock_ms, wall_ms = [], []
        now, wall, call = self._clock.now_ns, time.perf_counter_ns, self._call
        with self.session.running():
            for _ in range(self._settle()):
                call()
            for _ in range(samples):
                wall_start, start = wall(), now()
                for _ in range(calls):
                    call()
                end, wall_end = now(), wall()
                clock_ms.append((end - start) / calls / 1e6)
                wall_ms.append((wall_end - wall_start) / calls / 1e6)
        return Block(tuple(clock_ms), tuple(wall_ms))

    def _settle(self) -> int:
        return next((calls for limit, calls in _SETTLE if self.call_ms < limit), 0)

    def _pace(self, block_ms: float) -> tuple[int, int]:
        """Calls a sample, samples a block."""
        calls = max(1, ceil(max(_SHORTEST_SAMPLE_MS, block_ms / _MOST_SAMPLES) / self.call_ms))
        return calls, max(1, round(block_ms / (calls * self.call_ms)))


def collect(
    openers: Sequence[Callable[[], Runner]],
    effort: Effort,
    rng: np.random.Generator,
    enough: Callable[[Sequence[Repeat]], bool],
) -> list[Repeat]:
    """Repeats until `enough` of them or the time is up, and six observations at least (see `statistics`).

    Args:
        openers: one for each model; opens a session of it, or gives one that is open, and warms it.
        effort: when to stop.
        rng: draws the order of opening and the order within a round.
        enough: asked after every repeat once there are six.
    """
    start = time.perf_counter()
    repeats: list[Repeat] = []
    while True:
        opening = time.perf_counter()
        runners = _open(openers, rng)
        opening = time.perf_counter() - opening
        rounds = _rounds(opening, sum(runner.round_ms(effort.block_ms) for runner in runners) / 1e3, effort)
        repeats.append(play(runners, rounds, effort.block_ms, rng))
        del runners  # closes the sessions before the next are opened
        elapsed = time.perf_counter() - start
        observations = len(repeats) if len(repeats) >= FEWEST_OBSERVATIONS else sum(map(len, repeats))
        if observations < FEWEST_OBSERVATIONS:
            continue
        if elapsed * (1 + 1 / len(repeats)) > effort.seconds:
            return repeats
        if len(repeats) >= FEWEST_OBSERVATIONS and enough(repeats):
            return repeats


def _rounds(opening_s: float, round_s: float, effort: Effort) -> int:
    """Rounds for one set of sessions.

    Sessions that open quickly are opened six times or more. Where there is no time for that, opening gets half of it
    at most, and the rounds of few sessions have to do.
    """
    if FEWEST_OBSERVATIONS * (opening_s + effort.rounds * round_s) <= effort.seconds:
        return effort.rounds
    sets = min(FEWEST_OBSERVATIONS, max(1, int(effort.seconds / (2 * opening_s))))
    share = effort.seconds / sets - opening_s
    return min(max(ceil(FEWEST_OBSERVATIONS / sets), int(share / round_s)), 4 * FEWEST_OBSERVATIONS)


def play(runners: Sequence[Runner], rounds: int, block_ms: float, rng: np.random.Generator) -> Repeat:
    """That many rounds of open sessions, each in an order of its own."""
    return tuple(_round(runners, block_ms, rng) for _ in range(rounds))


def _open(openers: Sequence[Callable[[], Runner]], rng: np.random.Generator) -> list[Runner]:
    """A runner for each opener, opened in random order: which memory a session gets depends on what was opened before.

    (Always opened second, a model compared with itself was 0.1 to 0.5 % quicker.)
    """
    opened = {int(place): openers[place]() for place in rng.permutation(len(openers))}
    return [opened[place] for place in range(len(openers))]


def _round(runners: Sequence[Runner], block_ms: float, rng: np.random.Generator) -> tuple[Block, ...]:
    blocks: dict[int, Block] = {}
    with _no_garbage_collection():
        for position in rng.permutation(len(runners)):
            blocks[int(position)] = runners[position].block(block_ms)
    return tuple(blocks[position] for position in range(len(runners)))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a sample would be counted as the model's."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
