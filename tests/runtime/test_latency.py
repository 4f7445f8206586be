"""Real sessions: only what holds on any machine, however busy."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from ortrim.errors import ModelError
from ortrim.runtime import Comparator, Device, clock, compare, compare_many, measure
from ortrim.runtime.clock import clock_for, thread_tick_ns


def test_measure_says_how_it_measured(conv_net, device):
    found = measure(conv_net(), device, seconds=0.5)
    assert 0 < found.low_ms <= found.median_ms <= found.high_ms
    assert found.median_ms <= found.p90_ms
    assert found.confidence == 0.95
    assert found.clock == clock_for(device).name
    assert found.wall_median_ms > 0
    assert len(found.samples_ms) >= 6
    assert found.conditions["device"] == device.describe()
    assert set(found.conditions["providers"]) == {"CPUExecutionProvider"}
    assert found.conditions["sessions"] >= 1
    assert found.conditions["opening_s"] > 0
    assert found.conditions["warming_s"] > 0.2
    assert found.conditions["opening_s"] + found.conditions["warming_s"] < found.conditions["seconds"]
    assert json.loads(json.dumps(found.to_dict()))["median_ms"] == found.median_ms


def test_clock_follows_the_threads(device):
    if thread_tick_ns() < 10_000:
        assert clock_for(device).name == "thread-cpu"
    assert clock_for(Device.parse("cpu:threads=2")).name == "wall"
    assert clock_for(Device.parse("cpu")).name == "wall"


def test_an_interrupt_does_not_make_the_clock_coarse(monkeypatch):
    """CPU time in steps of 100 ns, but for one of a millisecond."""
    times = itertools.chain([0, 1_000_000], itertools.count(1_000_100, 100))
    monkeypatch.setattr(clock.time, "thread_time_ns", lambda: next(times))
    assert thread_tick_ns.__wrapped__() == 100


def test_more_threads_are_measured_on_the_wall(conv_net):
    found = measure(conv_net(), Device.parse("cpu:threads=2"), seconds=0.3)
    assert found.clock == "wall"
    assert found.median_ms > 0


def test_a_model_against_itself_is_about_one(conv_net, device):
    model = conv_net(channels=32)
    ratio = compare(model, model, device, seconds=1.5)
    assert ratio.low <= ratio.value <= ratio.high
    assert 0.75 < ratio.value < 1.33
    assert ratio.low * 0.8 <= 1 <= ratio.high * 1.25


def test_a_heavier_model_is_slower(conv_net, device):
    light, heavy = (
        conv_net(channels=32, size=24),
        conv_net(channels=64, size=24),
    )  # the second conv is four times heavier
    ratio = compare(light, heavy, device, seconds=1.5)
    assert ratio.value > 1.5
    back = compare(heavy, light, device, seconds=1.5)
    assert back.value < 0.67
    data = json.loads(json.dumps(ratio.to_dict()))
    assert data["baseline"]["conditions"]["providers"]["CPUExecutionProvider"] >= 2
    assert set(data) == {"value", "low", "high", "confidence", "baseline", "candidate", "drift", "drifted"}


def test_several_candidates_keep_their_order(conv_net, device):
    models = [conv_net(channels=channels, size=24) for channels in (32, 64, 8)]
    heavier, lighter = compare_many(models[0], models[1:], device, seconds=0.7)
    assert heavier.value > 1.3
    assert lighter.value < 0.8
    assert heavier.baseline == lighter.baseline
    assert compare_many(models[0], [], device) == ()


def test_comparator_serves_a_search(conv_net, device):
    with Comparator(conv_net(channels=32, size=24), device, seconds=0.3) as comparator:
        for channels, bounds in ((64, (1.3, 9)), (8, (0, 0.8)), (64, (1.3, 9))):
            ratio = comparator.ratio(conv_net(channels=channels, size=24))
            assert bounds[0] < ratio.value < bounds[1]
        assert comparator.ratios([]) == ()
        with pytest.raises(ModelError):
            comparator.ratio(b"no model")
        assert comparator.ratio(conv_net(channels=8, size=24)).value < 0.8  # and it goes on


def test_a_baseline_that_cannot_run_is_told_at_once(device):
    with pytest.raises(ModelError):
        Comparator("absent.onnx", device)


def test_batch_and_inputs_are_taken(conv_net, device):
    model = conv_net(batch="N", channels=32)
    one = measure(model, device, seconds=0.3)
    many = measure(model, device, seconds=0.3, shapes={"x": (8, 3, 16, 16)})
    given = measure(model, device, seconds=0.3, inputs={"x": np.ones((8, 3, 16, 16), np.float32)})
    assert many.median_ms > 2 * one.median_ms
    assert given.median_ms > 2 * one.median_ms


def test_models_with_different_inputs_can_be_compared(conv_net, device):
    ratio = compare(conv_net(), conv_net(name="image", channels=64), device, seconds=0.5, shapes={"x": (1, 3, 16, 16)})
    assert ratio.value > 1.2
