"""The timing loop on a machine whose time is simulated, so that the truth is known."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from ortrim.runtime import interleave
from ortrim.runtime.clock import Clock
from ortrim.runtime.estimate import latency_interval, ratio_interval, sampling_interval
from ortrim.runtime.interleave import Block, Effort, Runner, collect


@pytest.fixture
def run(simulated, monkeypatch):
    """Measures models of given milliseconds; gives the repeats and the machine."""
    make_machine, make_session = simulated

    def run(costs, effort, clock="wall", opening_ms=5.0, enough=lambda _: False, seed=0, **conditions):
        machine = make_machine(seed=seed, **conditions)
        monkeypatch.setattr(interleave, "time", machine)
        source = machine.perf_counter_ns if clock == "wall" else machine.thread_time_ns

        def open_one(cost):
            machine.work(opening_ms)
            runner = Runner(make_session(machine, cost), {}, Clock(clock, source))
            runner.warm_up(0.02)
            return runner

        openers = [partial(open_one, cost) for cost in costs]
        return collect(openers, effort, np.random.default_rng(seed), enough), machine

    return run


_THOROUGH = Effort(seconds=10, precision=0.01, rounds=4, block_ms=20.0)


def test_quiet_machine(run):
    repeats, _ = run([2.0, 1.4], _THOROUGH)
    found = sampling_interval(repeats, 1)
    assert found.low <= 0.7 <= found.high
    assert found.width < 0.02
    assert latency_interval(repeats, 0).median == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_wall_ratio_does_not_alias_with_the_scheduler(run, seed):
    """Another process has 4 of every 8 ms: calls shorter than its pause mostly miss it, longer ones never do.

    The medians of samples then are apart by much more than the truth; the ratio of block means is not.
    """
    repeats, _ = run([2.33, 0.76], _THOROUGH, seed=seed, period_ms=8.0, stolen_ms=4.0)
    truth = 0.76 / 2.33
    assert ratio_interval(repeats, 1).median == pytest.approx(truth, rel=0.1)
    medians = [np.median(np.concatenate([b[i].clock_ms for r in repeats for b in r])) for i in (0, 1)]
    assert medians[1] / medians[0] < 0.8 * truth


def test_thread_clock_does_not_see_other_processes(run):
    repeats, _ = run([2.33, 0.76], _THOROUGH, clock="thread-cpu", period_ms=8.0, stolen_ms=6.0)
    found = ratio_interval(repeats, 1, "thread-cpu")
    assert found.median == pytest.approx(0.76 / 2.33, rel=0.01)
    assert latency_interval(repeats, 0).median == pytest.approx(2.33, rel=0.01)


def test_interval_covers_the_truth(run):
    hits = 0
    for seed in range(40):
        repeats, _ = run([1.0, 0.8], Effort(1.0, 0.0, rounds=2, block_ms=8.0), seed=seed, period_ms=6.0, stolen_ms=1.0)
        found = sampling_interval(repeats, 1)
        hits += found.low <= 0.8 <= found.high
    assert hits >= 34  # 38 are expected, and fewer than 34 have a probability of 0.3 %


def test_time_is_kept(run):
    for costs, seconds in (([2.0, 1.0], 2.0), ([50.0, 40.0], 10.0), ([0.03], 1.0)):
        effort = Effort(seconds, 0.0, rounds=4, block_ms=20.0)
        _, machine = run(costs, effort)
        assert machine.now_ms / 1e3 - 1 <= 1.3 * seconds


def test_slow_models_still_get_six_observations(run):
    repeats, _ = run([900.0, 800.0], Effort(5.0, 0.01, rounds=4, block_ms=20.0))
    assert sum(map(len, repeats)) >= 6
    assert ratio_interval(repeats, 1).confidence == 0.95


def test_sessions_that_open_slowly_are_opened_seldom(run):
    repeats, _ = run([2.0, 1.0], Effort(10.0, 0.0, rounds=4, block_ms=20.0), opening_ms=20_000)
    assert len(repeats) == 1
    assert len(repeats[0]) >= 6


def test_stops_when_narrow_enough(run):
    asked = []

    def enough(repeats):
        asked.append(len(repeats))
        return len(repeats) == 8

    repeats, _ = run([1.0], Effort(100.0, 0.01, rounds=2, block_ms=8.0), enough=enough)
    assert asked == [6, 7, 8]
    assert len(repeats) == 8


def test_quick_models_are_called_several_times_a_sample(run):
    repeats, _ = run([0.01], Effort(0.5, 0.0, rounds=2, block_ms=8.0))
    block = repeats[0][0][0]
    assert 1 <= len(block.clock_ms) <= 30
    assert block.median_ms == pytest.approx(0.01, rel=0.05)


def test_order_is_random_and_repeatable(run, monkeypatch):
    def order(seed):
        calls = []
        original = Runner.block

        def block(self, block_ms):
            calls.append(round(self.call_ms, 1))
            return original(self, block_ms)

        with monkeypatch.context() as patch:
            patch.setattr(Runner, "block", block)
            run([1.0, 2.0, 3.0], Effort(2.0, 0.0, rounds=4, block_ms=8.0), seed=seed)
        return calls[:30]

    first = order(1)
    assert first == order(1)
    rounds = {tuple(first[i : i + 3]) for i in range(0, 30, 3)}
    assert len(rounds) > 1
    assert all(sorted(turn) == [1.0, 2.0, 3.0] for turn in rounds)


def test_a_ratio_wanders_more_the_further_it_is_from_one(run):
    widths = []
    for cost in (2.0, 1.6, 0.6):
        repeats, _ = run([2.0, cost], _THOROUGH)
        sampled, found = sampling_interval(repeats, 1), ratio_interval(repeats, 1)
        assert found.median == sampled.median
        assert found.low <= sampled.low <= sampled.high <= found.high
        widths.append(found.width)
    assert widths[0] < 0.01 < widths[2] < 0.04
    assert widths == sorted(widths)


def _repeats(base, candidate, wall=1.0):
    """Six sessions of one round: samples of two models, and how much longer they took on the wall."""
    block = lambda samples: Block(tuple(samples), tuple(wall * sample for sample in samples))  # noqa: E731
    return [((block(base), block(candidate)),)] * 6


def test_calls_that_something_slowed_down_do_not_count_while_nobody_takes_the_core():
    base, candidate = [2.0] * 8, [1.0, 1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.5]
    assert sampling_interval(_repeats(base, candidate), 1, "thread-cpu").median == pytest.approx(0.5)
    assert sampling_interval(_repeats(base, candidate), 1, "wall").median == pytest.approx(0.625)
    assert sampling_interval(_repeats(base, candidate, wall=2.0), 1, "thread-cpu").median == pytest.approx(0.625)
