"""Drift, on a machine whose time is simulated."""

from __future__ import annotations

import pytest

from ortrim.runtime import Comparator, comparator, interleave
from ortrim.runtime.bench import Bench
from ortrim.runtime.clock import Clock


@pytest.fixture
def machine(simulated, monkeypatch):
    make_machine, make_session = simulated
    machine = make_machine()
    monkeypatch.setattr(interleave, "time", machine)
    monkeypatch.setattr(comparator, "time", machine)

    def open_simulated(_bench, milliseconds, _warm_up_s=0.02):
        machine.work(3.0)
        runner = interleave.Runner(make_session(machine, milliseconds), {}, Clock("wall", machine.perf_counter_ns))
        runner.warm_up(0.02)
        return runner

    monkeypatch.setattr(Bench, "open", open_simulated)
    return machine


def test_steady_machine(machine, device):
    with Comparator(2.0, device) as compared:
        for candidate in (1.0, 1.6):
            ratio = compared.ratio(candidate)
            assert ratio.value == pytest.approx(candidate / 2, rel=0.01)
            assert abs(ratio.drift) < 0.03
            assert not ratio.drifted
            assert ratio.candidate.conditions["measured_again"] is False


def test_a_new_level_is_measured_twice_flagged_once_and_then_known(machine, device):
    with Comparator(2.0, device) as compared:
        compared.ratio(1.0)
        machine.speed = 1.2
        changed = compared.ratio(1.0)
        assert changed.drifted
        assert changed.drift == pytest.approx(0.2, abs=0.03)
        assert changed.candidate.conditions["measured_again"] is True
        assert changed.value == pytest.approx(0.5, rel=0.01)  # both were slower, so the ratio stands
        assert not compared.ratio(1.0).drifted


def test_a_passing_disturbance_is_measured_away(machine, device, monkeypatch):
    with Comparator(2.0, device) as compared:
        compared.ratio(1.0)
        original, calls = Comparator._collect, []

        def disturbed(self, candidates, limit):
            machine.speed = 1.0 if calls else 1.3
            calls.append(1)
            return original(self, candidates, limit)

        monkeypatch.setattr(Comparator, "_collect", disturbed)
        ratio = compared.ratio(1.0)
        assert len(calls) == 2
        assert not ratio.drifted
        assert ratio.baseline.median_ms == pytest.approx(2.0, rel=0.02)


def test_a_candidate_clearly_off_the_limit_is_cut_short(machine, device):
    spent = {}
    with Comparator(2.0, device, seconds=4.0, precision=1e-9) as compared:
        for limit in (None, 0.52, 0.3, 0.8):
            found = compared.ratio(1.0, limit=limit)
            assert found.value == pytest.approx(0.5, rel=0.02)
            assert found.confidence == 0.95
            spent[limit] = found.candidate.conditions["seconds"]
    assert spent[0.3] < 0.6 * spent[None]
    assert spent[0.8] < 0.6 * spent[None]
    assert spent[0.52] > 0.8 * spent[None]


def test_drift_within_one_measurement_is_seen(machine, device, monkeypatch):
    original = interleave.Runner.block

    def ever_slower(self, block_ms):
        machine.speed *= 1.01
        return original(self, block_ms)

    monkeypatch.setattr(interleave.Runner, "block", ever_slower)
    with Comparator(2.0, device) as compared:
        assert compared.ratio(1.0).drifted


def test_kept_sessions_take_turns(machine, device, monkeypatch):
    opened = []
    original = Bench.open
    monkeypatch.setattr(Bench, "open", lambda bench, model: (opened.append(model), original(bench, model))[1])
    with Comparator(2.0, device, keep=3) as compared:
        for _ in range(4):
            compared.ratio(1.0)
    assert opened.count(2.0) == 3
    assert opened.count(1.0) >= 24
