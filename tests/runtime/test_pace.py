"""Figures of layers on a machine that others disturb: time is made up, so that the truth is known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ortrim.runtime import Device, LatencyTable, LayerShape, table
from ortrim.runtime.interleave import Block
from ortrim.runtime.pace import Pace

_SHAPE = LayerShape("Conv", 16, 16, (8, 8), kernel=(3, 3))


class Machine:
    """Blocks of (layer, control, reference) take 3, 1 and 1 ms; `slowness` says how much longer, round by round."""

    def __init__(self, monkeypatch, slowness):
        self.slowness = slowness
        self.round = 0
        self.now = 0.0
        monkeypatch.setattr(table, "play", self.play)
        monkeypatch.setattr(table, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def play(self, runners, rounds, *_):
        played = []
        for _ in range(rounds):
            factor = self.slowness(self.round)
            times = (3.0, 1.0, 1.0)[-len(runners) :]
            played.append(tuple(Block((factor * each,), (factor * each,)) for each in times))
            self.round += 1
            self.now += 0.004
        return tuple(played)

    def block(self, _block_ms):
        return Block((1.0,), (1.0,))

    def measure(self, unit_ms=1.0, patience_s=30.0):
        pace = Pace(self)
        pace.unit_ms, pace.patience_s = unit_ms, patience_s
        self.pace = pace
        return table.measure_layer(SimpleNamespace(open=lambda *_: None, pace=pace), _SHAPE)


def test_a_quiet_machine(monkeypatch):
    machine = Machine(monkeypatch, lambda _: 1.0)
    assert machine.measure() == pytest.approx(2.0)
    assert machine.round == table._BATCH


def test_disturbed_rounds_do_not_count(monkeypatch):
    """Two thirds of the time everything takes half as long again."""
    machine = Machine(monkeypatch, lambda number: 1.0 if number % 3 == 0 else 1.5)
    assert machine.measure() == pytest.approx(2.0)


def test_a_disturbance_that_ends_is_waited_for(monkeypatch):
    machine = Machine(monkeypatch, lambda number: 1.5 if number < 60 else 1.0)
    assert machine.measure() == pytest.approx(2.0)
    assert machine.round > 60


def test_one_that_does_not_end_is_scaled_away(monkeypatch):
    machine = Machine(monkeypatch, lambda _: 1.5)
    assert machine.measure() == pytest.approx(2.0)
    assert machine.now == pytest.approx(table._PATIENCE_S, abs=0.1)


def test_patience_ends(monkeypatch):
    """A machine that is slower for good is not waited for with every layer."""
    machine = Machine(monkeypatch, lambda _: 1.5)
    assert machine.measure(patience_s=1.0) == pytest.approx(2.0)
    assert machine.pace.patience_s == pytest.approx(1.0 - (machine.now - table._LONGEST_S))
    before = machine.now
    assert machine.measure(patience_s=0.0) == pytest.approx(2.0)
    assert machine.now - before < 0.2


def test_quiet_is_what_it_was_when_the_figures_were_begun(monkeypatch):
    """A disturbance that began before the first look at the reference."""
    machine = Machine(monkeypatch, lambda number: 1.0 if number < 60 else 0.8)
    assert machine.measure(unit_ms=0.8) == pytest.approx(1.6)
    assert machine.round > 60


def test_figures_are_at_the_pace_of_earlier_ones(monkeypatch):
    """The clock rate has halved since the cache was begun."""
    machine = Machine(monkeypatch, lambda _: 1.0)
    assert machine.measure(unit_ms=0.5) == pytest.approx(1.0)


def test_the_pace_is_kept_with_the_figures(tmp_path):
    device, path = Device.parse("cpu:threads=1"), tmp_path / "layers.sqlite"
    first = LatencyTable(device, path)
    first.milliseconds(_SHAPE)
    unit = first.dump()["reference_ms"]
    assert unit > 0
    second = LatencyTable(device, path)
    second.milliseconds(_SHAPE)
    second.milliseconds(LayerShape("Gemm", 8, 8, (1,)))
    assert second.dump()["reference_ms"] == unit
    third = LatencyTable(device, known=first.dump())
    third.milliseconds(LayerShape("Gemm", 8, 8, (1,)))
    assert third.dump()["reference_ms"] == unit
