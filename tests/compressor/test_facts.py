"""What a report says of latency where several devices were measured."""

import json
from types import SimpleNamespace

import onnx
import pytest

from ortrim.compressor.facts import describe
from ortrim.compressor.net import Net
from ortrim.compressor.report import DeviceFacts, SearchFacts, to_json
from ortrim.compressor.score import Score
from ortrim.compressor.search.space import Outcome
from ortrim.compressor.search.tally import Tally
from ortrim.compressor.search.trials import Trials
from ortrim.compressor.target import Target
from ortrim.graph import analyze
from ortrim.runtime import Latency, Ratio

FIRST, SECOND = (DeviceFacts(name, "provider", "1.31", "cpu") for name in ("first", "second"))


def ratio(baseline_ms, slim_ms, scale=1.0):
    """As measured, or in terms of another device's target."""
    value = scale * slim_ms / baseline_ms

    def latency(milliseconds):
        values = dict.fromkeys(("median_ms", "p90_ms", "low_ms", "high_ms", "wall_median_ms"), milliseconds)
        return Latency(**values, confidence=0.95, samples_ms=(milliseconds,), clock="wall", conditions={})

    return Ratio(value, value, value, 0.95, latency(baseline_ms), latency(slim_ms), 0.0, False)


@pytest.fixture
def report(residual, tmp_path):
    """`report(latency, target, devices)` of a net that was searched to 4 ms."""
    path = tmp_path / "net.onnx"
    onnx.save(residual, path)
    analysis = analyze(residual)
    scorer = SimpleNamespace(baseline=SimpleNamespace(value=1.0), dataset=[0])

    def make(latency, target, devices):
        with Trials.create(tmp_path / f"{len(devices)}.sqlite") as trials:
            trial = trials.add({}, Outcome(0.9, latency.value))
            trials.add_failed({}, 1.0)
            evaluator = SimpleNamespace(
                trials=trials, maker=SimpleNamespace(scorer=scorer), meter=SimpleNamespace(facts=FIRST), tally=Tally()
            )
            return describe(
                SimpleNamespace(model=path, target=Target(milliseconds=4.0)),
                evaluator,
                scorer,
                residual,
                Net(residual, analysis, residual, analysis),
                SimpleNamespace(choices=()),
                SimpleNamespace(trial=trial),
                output=tmp_path / "slim.onnx",
                slim=residual,
                latency=latency,
                target_ratio=target,
                score=Score(0.9, "agreement", "top-1", 0.9),
                classes=(),
                search=SearchFacts("knapsack", 2, 1.0, trial.id),
                stages=(),
                notes=(),
                settings={},
                devices=devices,
            )

    return make


def test_the_ratio_is_that_of_the_milliseconds_beside_it(report):
    """4 ms are 0.4 of the first device's 10 and 0.8 of the second's 5, which takes 3.9: the worst, and met."""
    found = report(ratio(5.0, 3.9, scale=0.4 / 0.8), 0.4, [(FIRST, ratio(10.0, 3.0)), (SECOND, ratio(5.0, 3.9))])
    said = json.loads(to_json(found))
    assert said["latency"]["ratio"] == said["latency"]["slim_ms"] / said["latency"]["baseline_ms"] == 0.78
    assert said["latency"]["low"] == 0.78
    assert said["target"]["ratio"] == pytest.approx(0.8)
    assert found.met
    assert [trial["ratio"] for trial in said["trials"]] == [pytest.approx(0.78), None]


def test_one_device_is_said_as_it_is(report):
    found = report(ratio(10.0, 3.9), 0.4, [])
    assert (found.latency.ratio, found.target.ratio, found.trials[0].ratio) == (0.39, 0.4, 0.39)
