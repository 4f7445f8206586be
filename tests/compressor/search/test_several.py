"""Several devices count as their worst; records and replays keep them apart."""

from types import SimpleNamespace

import pytest

from ortrim.compressor.facts import as_measured
from ortrim.compressor.report import DeviceFacts
from ortrim.compressor.search.meter import DEVICES, Quick, ReplayMeter
from ortrim.compressor.search.several import Named, SeveralMeters, SeveralPredictions
from ortrim.compressor.search.trials import Trials
from ortrim.errors import RunError
from ortrim.runtime import Device, Latency, Ratio


class FakePrediction:
    """A net of one group whose latency falls in proportion to a power of its width."""

    def __init__(self, full_ms, power):
        self.full_ms, self.power, self.layers_by_group = full_ms, power, {"a": ()}
        self.related = None

    def group_ms(self, name, width):
        return self.full_ms * (width / 16) ** self.power

    def ratio(self, widths):
        share = 1.0 if self.related is None else self.related[1][0]
        return share * (widths["a"] / 16) ** self.power

    def relate(self, original, ratios):
        self.related = original, ratios


def latency(milliseconds):
    values = dict.fromkeys(("median_ms", "p90_ms", "low_ms", "high_ms", "wall_median_ms"), milliseconds)
    return Latency(**values, confidence=0.95, samples_ms=(milliseconds,), clock="wall", conditions={})


class FakeMeter:
    """A device on which every net takes a fixed share of the original's time."""

    def __init__(self, name, share, milliseconds=1.0):
        self.facts = DeviceFacts(name, f"{name} provider", "1.31", "cpu")
        self.share, self.milliseconds, self.limits, self.closed, self.checked = share, milliseconds, [], False, False

    def baseline(self):
        return self.milliseconds

    def predict(self, analysis, shapes):
        return FakePrediction(self.milliseconds, 1 / self.share)

    def quick(self, plan, model, limit=None):
        self.limits.append(limit)
        return Quick(self.share, self.share - 0.01, self.share + 0.01, 1.0, self.share, {"measuring": 0.5})

    def final(self, plan, model, *, recovered=False, limit=None):
        share = self.share + 0.01 * recovered
        times = latency(self.milliseconds), latency(share * self.milliseconds)
        return Ratio(share, share, share, 0.95, *times, 0.0, False)

    def check(self):
        self.checked = True

    def keep_table(self):
        pass

    def close(self):
        self.closed = True


@pytest.fixture
def record():
    kept = {}
    return SimpleNamespace(kept=kept, record=kept.__setitem__, recall=kept.get)


def test_a_plan_is_as_fast_as_on_its_worst_device(record):
    meters = [FakeMeter("cpu", 0.5), FakeMeter("gpu", 0.7)]
    several = SeveralMeters(meters, [0.6, 0.6], record)
    found = several.quick({"a": 8}, None, 0.6)
    assert (found.ratio, found.low) == (0.7, pytest.approx(0.69))
    assert found.ratios == (0.5, 0.7)
    assert found.spent == {"measuring": 1.0}
    assert several.final({"a": 8}, None).value == 0.7
    assert [(facts.spec, ratio.value) for facts, ratio in several.by_device({"a": 8})] == [("cpu", 0.5), ("gpu", 0.7)]
    assert several.by_device({"a": 4}) == []
    assert several.facts.spec == "cpu + gpu"
    assert [facts["spec"] for facts in record.kept[DEVICES]] == ["cpu", "gpu"]
    several.check()
    assert all(meter.checked for meter in meters)
    several.close()
    assert all(meter.closed for meter in meters)


def test_milliseconds_are_another_share_on_every_device(record):
    """2 ms are half of the first device's time and a fifth of the second's."""
    meters = [FakeMeter("fast", 0.45), FakeMeter("slow", 0.25)]
    several = SeveralMeters(meters, [0.5, 0.2], record)
    found = several.quick({"a": 8}, None, 0.5)
    assert found.ratio == pytest.approx(0.25 * 0.5 / 0.2)  # above 0.5: the second device misses its target
    assert [meter.limits for meter in meters] == [[0.5], [pytest.approx(0.2)]]
    assert found.ratios == (0.45, 0.25)


def test_the_report_has_the_worst_device_as_it_was_measured(record):
    """2 ms of 4 on the first device and of 10 on the second, which takes 2.6."""
    several = SeveralMeters([FakeMeter("fast", 0.45, 4.0), FakeMeter("slow", 0.25, 10.0)], [0.5, 0.2], record)
    found = several.final({"a": 8}, None, recovered=True)
    assert found.value == pytest.approx(0.26 * 0.5 / 0.2)
    worst = as_measured(found, several.by_device({"a": 8}))
    assert worst.value == worst.low == pytest.approx(worst.candidate.median_ms / worst.baseline.median_ms) == 0.26
    assert worst.candidate.median_ms == pytest.approx(2.6)
    assert as_measured(found, []) is found  # one device


def test_what_is_written_has_the_last_word(record):
    """A net of a front may come up again as a finalist for the next target."""
    several = SeveralMeters([FakeMeter("cpu", 0.5), FakeMeter("gpu", 0.7)], [0.8, 0.8], record)
    for recovered in (False, True, False):
        several.final({"a": 8}, None, recovered=recovered)
    assert [ratio.value for _, ratio in several.by_device({"a": 8})] == pytest.approx([0.51, 0.71])


def test_predictions_are_the_worst_and_costs_the_mean_share():
    fast, slow = FakePrediction(1.0, 2.0), FakePrediction(10.0, 0.5)
    several = SeveralPredictions([fast, slow], [1.0, 1.0])
    assert several.ratio({"a": 4}) == slow.ratio({"a": 4}) == 0.5
    assert several.full_ms == 1.0
    assert several.group_ms("a", 4) == pytest.approx((1 / 16 + 1 / 2) / 2)


def test_each_device_is_related_by_its_own_conversion():
    first, second = FakePrediction(1.0, 2.0), FakePrediction(10.0, 0.5)
    several = SeveralPredictions([first, second], [1.0, 2.5])
    several.relate(SeveralPredictions([second, first], [1.0, 2.5]), [0.4, 0.3])
    assert (first.related, second.related) == ((second, [0.4]), (first, [0.3]))
    # What is measured of the converted original: the worst of 0.4 and 0.3 * 2.5, the scale counted once.
    assert several.ratio({"a": 16}) == pytest.approx(0.75)
    several.relate(SeveralPredictions([second, first], [1.0, 2.5]), [0.6])
    assert (first.related[1], second.related[1]) == ([0.6], [0.6])


def test_each_device_has_its_part_of_the_record(record):
    part = Named(record, "device 2")
    part.record("baseline", 3.0)
    assert part.recall("baseline") == 3.0
    assert record.recall("baseline") is None


def test_a_run_on_several_devices_is_not_replayed(tmp_path, record):
    with Trials.create(tmp_path / "trials.sqlite") as trials:
        trials.record(DEVICES, [])
    with pytest.raises(RunError, match="several devices"):
        ReplayMeter(tmp_path, Device("cpu", threads=1), record)
