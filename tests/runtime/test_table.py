from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortrim.errors import OutputError, RunError
from ortrim.runtime import LatencyTable, LayerShape, host, measure, table, useful_widths

_LAYER = LayerShape("Conv", 16, 16, (12, 12), kernel=(3, 3), pads=(1, 1, 1, 1), activation="Relu")
_OTHERS = [replace(_LAYER, c_out=32), LayerShape("Gemm", 32, 10, (1,))]


@pytest.fixture
def no_measuring(monkeypatch):
    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(table, "measure_layer", refuse)


@pytest.fixture
def made_up(monkeypatch):
    """Costs without measuring, so that tests of the cache take no time."""
    monkeypatch.setattr(table, "measure_layer", lambda _bench, shape: shape.macs * 1e-7)


def test_heavier_layers_cost_more(device):
    found = LatencyTable(device)
    light = found.milliseconds(replace(_LAYER, spatial=(24, 24)))
    heavy = found.milliseconds(replace(_LAYER, spatial=(24, 24), c_in=64, c_out=64))  # 16 times the work
    assert 0 < 3 * light < heavy
    assert found.misses == 2
    assert found.seconds > 0


def test_sum_of_layers_is_about_the_latency_of_the_net(device, conv_net):
    """Loosely: the share that a chain of equal convolutions has in its net, on a machine that may be busy."""
    costs = LatencyTable(device)
    first = LayerShape("Conv", 3, 48, (24, 24), kernel=(3, 3), pads=(1, 1, 1, 1), activation="Relu")
    predicted = costs.milliseconds(first) + 3 * costs.milliseconds(replace(first, c_in=48))
    measured = measure(conv_net(channels=48, size=24, layers=4), device, seconds=0.5).median_ms
    assert 0.5 < predicted / measured < 2


def test_known_layers_are_hits(device, made_up):
    costs, seen = LatencyTable(device), []
    first = costs.measure_all([_LAYER, *_OTHERS, _LAYER], progress=lambda done, total: seen.append((done, total)))
    assert list(first) == [_LAYER, *_OTHERS]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (costs.hits, costs.misses) == (0, 3)
    assert costs.milliseconds(_LAYER) == first[_LAYER]
    assert (costs.hits, costs.misses) == (1, 3)


def test_cache_outlives_the_table(device, tmp_path, monkeypatch):
    path = tmp_path / "layers.sqlite"
    first = LatencyTable(device, path).measure_all([_LAYER, *_OTHERS])
    monkeypatch.setattr(table, "measure_layer", None)
    second = LatencyTable(device, path)
    assert second.measure_all([_LAYER, *_OTHERS]) == first
    assert (second.hits, second.misses) == (3, 0)


def test_cache_tells_devices_and_releases_apart(device, tmp_path, made_up, monkeypatch):
    path = tmp_path / "layers.sqlite"
    LatencyTable(device, path).milliseconds(_LAYER)
    other = LatencyTable(type(device).parse("cpu:threads=2"), path)
    other.milliseconds(_LAYER)
    assert other.misses == 1
    for name in ("cpu_name", "onnxruntime_release"):
        with monkeypatch.context() as patch:
            patch.setattr(host, name, lambda: "another")
            elsewhere = LatencyTable(device, path)
            elsewhere.milliseconds(_LAYER)
            assert elsewhere.misses == 1


def _garbage(path):
    path.write_bytes(b"not a database" * 100)


def _damaged_pages(path):
    content = bytearray(path.read_bytes())
    content[100:] = b"\xff" * (len(content) - 100)
    path.write_bytes(content)


def _cut_short(path):
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [_garbage, _damaged_pages, _cut_short])
def test_damaged_cache_is_set_aside(device, tmp_path, made_up, damage):
    path = tmp_path / "layers.sqlite"
    LatencyTable(device, path).measure_all([_LAYER, *_OTHERS])
    damage(path)
    with pytest.warns(UserWarning, match=r"layers\.sqlite is damaged"):
        costs = LatencyTable(device, path)
    assert costs.milliseconds(_LAYER) == _LAYER.macs * 1e-7
    assert costs.misses == 1
    assert (tmp_path / "layers.sqlite.damaged").exists()
    again = LatencyTable(device, path)
    again.milliseconds(_LAYER)
    assert again.hits == 1


def test_damage_while_in_use(device, tmp_path, made_up):
    path = tmp_path / "layers.sqlite"
    costs = LatencyTable(device, path)
    costs.milliseconds(_LAYER)
    _garbage(path)
    with pytest.warns(UserWarning, match="is damaged"):
        costs.milliseconds(_OTHERS[0])
    assert LatencyTable(device, path).milliseconds(_OTHERS[0]) == _OTHERS[0].macs * 1e-7


def test_figures_of_another_version_are_dropped(device, tmp_path, made_up):
    path = tmp_path / "layers.sqlite"
    LatencyTable(device, path).milliseconds(_LAYER)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    costs = LatencyTable(device, path)
    costs.milliseconds(_LAYER)
    assert costs.misses == 1


def test_other_files_are_not_touched(device, tmp_path):
    path = tmp_path / "precious.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE layers (a)")
        database.execute("INSERT INTO layers VALUES (1)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(OutputError, match="another program's database"):
        LatencyTable(device, path)
    assert path.read_bytes() == before
    for place in (tmp_path, tmp_path / "absent" / "layers.sqlite"):
        with pytest.raises(OutputError, match="cache"):
            LatencyTable(device, place)


def test_a_run_can_be_replayed(device, made_up, monkeypatch):
    costs = LatencyTable(device)
    first = costs.measure_all([_LAYER, *_OTHERS])
    record = json.loads(json.dumps(costs.dump()))
    assert record["device"]["spec"] == str(device)
    monkeypatch.setattr(table, "measure_layer", None)
    replayed = LatencyTable(device, known=record, replay=True)
    assert replayed.measure_all([_LAYER, *_OTHERS]) == first
    with pytest.raises(RunError, match="no LayerShape"):
        replayed.milliseconds(replace(_LAYER, c_out=17))


def test_widths_of_a_staircase():
    costs = {
        64: 1.79,
        63: 2.68,
        62: 2.51,
        60: 1.77,
        56: 1.78,
        48: 0.97,
        40: 0.95,
        32: 0.45,
        28: 0.45,
        20: 0.46,
        16: 0.17,
    }
    assert useful_widths(costs) == (16, 32, 48, 64)
    assert useful_widths(costs | {14: 0.22, 12: 0.16, 8: 0.10}) == (8, 12, 16, 32, 48, 64)
    assert useful_widths(costs | {14: 0.22, 12: 0.16, 8: 0.10}, tolerance=0.1) == (8, 16, 32, 48, 64)


def test_widths_without_steps_are_thinned_to_the_tolerance():
    widths = useful_widths({width: float(width) for width in range(1, 101)}, tolerance=0.1)
    assert widths[-1] == 100
    assert 1 in widths
    assert all(narrow < 0.9 * wide for narrow, wide in pairwise(widths))


def test_no_widths():
    with pytest.raises(ValueError, match="at least one"):
        useful_widths({})


@given(st.dictionaries(st.integers(0, 512), st.floats(1e-4, 100), min_size=1, max_size=40), st.floats(0, 0.3))
def test_kept_widths_are_those_that_pay(costs, tolerance):
    kept = useful_widths(costs, tolerance)
    assert kept[-1] == max(costs)
    assert list(kept) == sorted(kept)
    for narrow, wide in pairwise(kept):
        assert costs[narrow] < costs[wide] * (1 - tolerance)
    for width in costs.keys() - set(kept):
        assert any(wide > width and costs[width] >= costs[wide] * (1 - tolerance) for wide in kept)
