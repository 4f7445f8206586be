"""What a run writes down of its measurements, and what a replay of it answers."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.compressor.search import meter
from ortrim.compressor.search.meter import LiveMeter, ReplayMeter
from ortrim.compressor.search.space import Outcome
from ortrim.compressor.search.trials import Trials
from ortrim.errors import DeviceError, RunError
from ortrim.runtime import Device, compare

PLAN = {"a": 8}


@pytest.fixture
def model():
    weights = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv")],
        "net",
        [value("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [value("y", TensorProto.FLOAT, (1, 4, 8, 8))],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def measured(monkeypatch):
    """Thorough comparisons that were made; the first gives 0.58, the second 0.61, and so on."""
    made = []

    def listed(*args, **kwargs):
        found = compare(*args, **{**kwargs, "seconds": 0.05})
        made.append(replace(found, value=(0.58, 0.61, 0.59, 0.63)[len(made)]))
        return made[-1]

    monkeypatch.setattr(meter, "compare", listed)
    return made


@pytest.fixture
def run(tmp_path, model, measured):
    """A run whose only finalist missed 0.6x after it was recovered."""
    inputs = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    with Trials.create(tmp_path / "trials.sqlite") as trials:
        live = LiveMeter(model, Device("cpu", threads=1), inputs, trials, None, 0)
        live.baseline()
        trials.record("table", live.table.dump())
        trials.add(PLAN, Outcome(0.9, 0.59))
        assert live.final(PLAN, model).value == 0.58
        assert live.final(PLAN, model, recovered=True).value == 0.61
        assert live.final(PLAN, model).value == 0.58
        live.close()
    assert len(measured) == 2  # what is known is not measured again
    return tmp_path


def test_a_miss_is_measured_again_until_two_of_three_agree(tmp_path, model, measured):
    inputs = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    with Trials.create(tmp_path / "trials.sqlite") as trials:
        live = LiveMeter(model, Device("cpu", threads=1), inputs, trials, None, 0)
        assert live.final(PLAN, model, limit=0.6).value == 0.58  # met: once is enough
        assert live.final(PLAN, model, recovered=True, limit=0.6).value == 0.61  # of 0.61, 0.59 and 0.63
        assert len(measured) == 4
        live.close()


def test_two_misses_need_no_third_measurement(tmp_path, model, measured):
    inputs = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    with Trials.create(tmp_path / "trials.sqlite") as trials:
        live = LiveMeter(model, Device("cpu", threads=1), inputs, trials, None, 0)
        assert live.final(PLAN, model, limit=0.5).value == 0.58  # of 0.58 and 0.61
        assert len(measured) == 2
        live.close()


def replayed(run, record):
    return ReplayMeter(run, Device("cpu", threads=1), record)


def test_a_finalist_that_missed_in_the_end_does_so_in_a_replay(run, tmp_path):
    with Trials.create(tmp_path / "again.sqlite") as record:
        again = replayed(run, record)
        assert again.final(PLAN, None).value == 0.58
        assert again.final(PLAN, None, recovered=True).value == 0.61
        assert again.final(PLAN, None).value == 0.58


def test_runs_of_earlier_versions_have_one_figure_for_both(run, tmp_path):
    with Trials.open(run / "trials.sqlite") as trials:
        trials.record(f'recovered {{"a": {PLAN["a"]}}}', None)
    with Trials.create(tmp_path / "again.sqlite") as record:
        assert replayed(run, record).final(PLAN, None, recovered=True).value == 0.58


def test_a_candidate_that_failed_fails_in_a_replay(run, tmp_path):
    with Trials.open(run / "trials.sqlite") as trials:
        trials.add_failed({"a": 2}, 1.0)
    with Trials.create(tmp_path / "again.sqlite") as record, pytest.raises(DeviceError, match="failed there"):
        replayed(run, record).quick({"a": 2}, None)


def test_a_device_is_checked_with_the_original(run, tmp_path, model, monkeypatch):
    with Trials.create(tmp_path / "again.sqlite") as record:
        live = LiveMeter(model, Device("cpu", threads=1), {"x": np.zeros((1, 3, 8, 8), np.float32)}, record, None, 0)
        live.check()
        monkeypatch.setattr(live._comparator, "ratio", lambda asked: lost(asked is model))
        with pytest.raises(DeviceError, match="True"):
            live.check()
        replayed(run, record).check()


def lost(original):
    raise DeviceError(f"the original was asked for: {original}")


def test_a_plan_that_was_not_measured(run, tmp_path):
    with Trials.create(tmp_path / "again.sqlite") as record, pytest.raises(RunError, match="no final latency"):
        replayed(run, record).final({"a": 4}, None)
