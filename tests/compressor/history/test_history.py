"""The store of past searches: what goes in comes out, what is damaged is named, and the nearest runs are chosen."""

import json
import multiprocessing
import sqlite3
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from ortrim.compressor.history import (
    History,
    Keeper,
    RunRecord,
    choose,
    feeds_hash,
    graph_hash,
    history_path,
    weights_hash,
)
from ortrim.compressor.history.choosing import LEAST_LIKENESS, likeness, relation
from ortrim.compressor.history.records import past_from_json, past_to_json
from ortrim.compressor.history.transfer import export_lines, import_file
from ortrim.compressor.search.budget import Budget
from ortrim.compressor.search.environment import Walk
from ortrim.compressor.search.past import OldTrial, ahead_of
from ortrim.compressor.search.space import Choice, Outcome, Space
from ortrim.compressor.search.trials import Trials
from ortrim.errors import RunError


class Sum:
    """Latency in proportion to the units kept."""

    def ratio(self, widths):
        return (widths.get("a", 16) + widths.get("b", 8)) / 24


CHOICES = (
    Choice("a", 16, (4, 8, 16), {"c_in": 3.0, "macs": 100.0}, {4: 0.1, 16: 0.4}, (1.0,) * 16),
    Choice("b", 8, (0, 4, 8), {"c_in": 16.0, "macs": 50.0}),
)
SPACE = Space(CHOICES, Sum(), 0.6, {"a": {4: 0.5, 8: 0.2}})
RECORD = RunRecord(
    uid="feed01",
    created=1000.0,
    model="net.onnx",
    graph="g",
    device="cpu:threads=1",
    cpu="a cpu",
    onnxruntime="1.31",
    precision="fp32",
    target=0.6,
    weights="w",
    images="i",
    agent="ortrim",
    seed=0,
    kind="agreement",
    choices=CHOICES,
    damage=SPACE.damage,
)


def trial(score, row=(8, 4), ratio=0.5):
    return OldTrial(row, Outcome(score, ratio, 1.5), ahead_of(Walk(Budget(SPACE)), row))


def filled(path, *records, count=12):
    with History.open(path) as history:
        for record in records:
            history.begin(record)
            for number in range(count):
                history.add(record.uid, number, trial(number / 20))
    return path


def test_what_goes_in_comes_out(tmp_path):
    with History.open(filled(tmp_path / "h.sqlite", RECORD)) as history:
        assert history.records() == [RECORD]
        assert history.trials(RECORD) == [trial(n / 20) for n in range(12)]
        (line,) = history.summaries()
        assert (line.trials, line.best, line.ratio) == (12, 11 / 20, 0.5)
        assert history.find("feed") == RECORD
        history.add(RECORD.uid, 3, trial(0.99))  # the number is taken
        assert history.trials(RECORD)[3] == trial(3 / 20)
        assert history.remove([RECORD.uid]) == 1
        assert history.records() == []


def test_states_of_a_kept_walk_are_those_of_the_walk():
    walk = Walk(Budget(SPACE))
    past = choose([RECORD], replace(RECORD, uid="new"), lambda record: [trial(n / 20) for n in range(12)])
    source = past.sources[0]
    assert source.relation == "memory"
    assert source.states(source.trials[0]) == pytest.approx(walk.states((8, 4)), abs=1e-3)
    assert source.actions(source.trials[0]) == pytest.approx(walk.actions((8, 4)))


def test_the_nearest_runs_come_first_and_other_scores_are_left_out():
    like_net = (Choice("y", 16, (4, 16), {"c_in": 3.0, "macs": 90.0}), *CHOICES)
    other_net = (Choice("z", 16, (4, 16), {"c_in": 3.0, "macs": 500.0}), *CHOICES)
    records = [
        replace(RECORD, uid="far model", graph="x", choices=other_net),
        replace(RECORD, uid="near model", graph="y", choices=like_net),
        replace(RECORD, uid="weights", weights="others", device="cuda:0"),
        replace(RECORD, uid="device", device="cuda:0"),
        replace(RECORD, uid="target", target=0.8),
        replace(RECORD, uid="memory"),
        replace(RECORD, uid="accuracy", kind="accuracy"),
        replace(RECORD, uid="short"),
    ]
    new = replace(RECORD, uid="new")
    trials = {record.uid: [trial(0.5)] * (9 if record.uid == "short" else 12) for record in records}
    asked = []
    past = choose(records, new, lambda record: asked.append(record.uid) or trials[record.uid])
    assert [source.relation for source in past.sources] == ["memory", "target", "device", "weights"]
    assert "accuracy" not in asked
    assert past.trials == 48
    past = choose(records[:2], new, lambda record: trials[record.uid])
    assert [source.choices for source in past.sources] == [like_net, other_net]
    assert likeness(CHOICES, CHOICES) == 1.0 > likeness(like_net, CHOICES) > likeness(other_net, CHOICES)
    assert relation(replace(RECORD, precision="int8"), RECORD) == "device"
    assert choose(records[6:], new, lambda record: trials[record.uid]) is None


def test_a_model_that_is_not_like_this_one_warms_nothing():
    large = tuple(
        replace(c, features={name: 300 * value for name, value in c.features.items()}) for c in RECORD.choices
    )
    unlike = replace(RECORD, uid="unlike", graph="x", choices=large)
    assert 0 < likeness(large, CHOICES) < LEAST_LIKENESS
    assert choose([unlike], replace(RECORD, uid="new"), lambda record: [trial(0.5)] * 12) is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, "memory"),
        ({"target": 0.8}, "target"),
        ({"target": 0.8, "device": "cuda:0"}, "device"),
        ({"target": 0.8, "images": "others"}, "images"),
        ({"device": "cuda:0", "images": "others", "weights": "others"}, "weights"),
        ({"weights": "others", "graph": "x"}, "model"),
        ({"weights": ""}, "weights"),  # of an earlier version: nothing says that they are the same
    ],
)
def test_only_the_same_search_is_memory(change, found):
    assert relation(replace(RECORD, **change), RECORD) == found


def test_records_of_earlier_versions_are_read():
    old = {name: value for name, value in RECORD.to_json().items() if name not in ("weights", "images")}
    assert RunRecord.from_json(json.loads(json.dumps(old))) == replace(RECORD, weights="", images="")


def test_digests_tell_weights_and_images_apart(residual):
    other = onnx.ModelProto.FromString(residual.SerializeToString())
    for tensor in other.graph.initializer:
        tensor.name = f"{tensor.name} by another name"
    assert weights_hash(other) == weights_hash(residual)
    first = other.graph.initializer[0]
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * 1.001, first.name))
    assert weights_hash(other) != weights_hash(residual)
    images = np.zeros((2, 3), np.float32)
    assert feeds_hash({"x": images}) == feeds_hash({"x": images.copy()})
    assert len({feeds_hash(feeds) for feeds in ({"x": images}, {"x": images + 1}, {"y": images}, {"x": images.T})}) == 4


def test_the_past_survives_as_json():
    past = choose([RECORD], replace(RECORD, uid="new"), lambda record: [trial(n / 20) for n in range(12)])
    assert past_from_json(json.loads(json.dumps(past_to_json(past)))) == past


def test_graphs_are_known_by_structure_not_by_names_or_values():
    def make(names, wide, stride=1):
        x, w, y = names
        return parser.parse_model(
            f"""<ir_version: 9, opset_import: ["" : 17]>
            g (float[1,3,8,8] {x}) => (float[1,{wide},8,8] {y})
            <float[{wide},3,1,1] {w} = {{{", ".join(["0.5"] * 3 * wide)}}}>
            {{ {y} = Conv<strides=[{stride},{stride}]>({x}, {w}) }}"""
        )

    first = graph_hash(make("xwy", 2))
    assert graph_hash(make("abc", 2)) == first
    assert graph_hash(make("xwy", 3)) != first
    assert graph_hash(make("xwy", 2, stride=2)) != first


def test_export_and_import(tmp_path):
    with History.open(filled(tmp_path / "a.sqlite", RECORD, replace(RECORD, uid="beef02"))) as history:
        (tmp_path / "out.jsonl").write_bytes(export_lines(history, history.records()))
    with History.open(tmp_path / "b.sqlite") as other:
        assert import_file(other, tmp_path / "out.jsonl") == (2, 2)
        assert import_file(other, tmp_path / "out.jsonl") == (2, 0)
        assert {record.uid for record in other.records()} == {"feed01", "beef02"}
        assert len(other.trials(RECORD)) == 12


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-30],
        lambda text: text.replace('"target": 0.6', '"target": 6'),
        lambda text: text.replace('"row": [8, 4]', '"row": [8, 9]', 1),
        lambda text: text.replace("ortrim history", "something else"),
        lambda text: "[]\n",
    ],
    ids=["cut off", "target out of range", "width out of range", "of something else", "no object"],
)
def test_a_damaged_export_is_refused_whole(tmp_path, spoil):
    with History.open(filled(tmp_path / "a.sqlite", RECORD)) as history:
        text = export_lines(history, history.records()).decode()
    (tmp_path / "bad.jsonl").write_text(text + spoil(text))
    with History.open(tmp_path / "b.sqlite") as other:
        with pytest.raises(RunError, match=r"bad.jsonl, line [12]: "):
            import_file(other, tmp_path / "bad.jsonl")
        assert other.records() == []


def test_other_files_are_named_and_left_alone(tmp_path):
    (tmp_path / "text.sqlite").write_text("not a database, though long enough to be looked at" * 50)
    with pytest.raises(RunError, match=r"text.sqlite cannot be read"):
        History.open(tmp_path / "text.sqlite")
    with sqlite3.connect(tmp_path / "foreign.sqlite") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(RunError, match=r"foreign.sqlite is not a history"):
        History.open(tmp_path / "foreign.sqlite")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        History.open(tmp_path / "file" / "h.sqlite")
    filled(tmp_path / "h.sqlite", RECORD)
    with History.open(tmp_path / "h.sqlite") as history, pytest.raises(RunError, match=r"no run .* 'dead'"):
        history.find("dead")


def _write(path, uid):
    filled(path, replace(RECORD, uid=uid), count=40)


def test_several_processes_write_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path / "h.sqlite", f"run{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    with History.open(tmp_path / "h.sqlite") as history:
        assert [len(history.trials(record)) for record in history.records()] == [40, 40, 40]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("ORTRIM_HISTORY", str(tmp_path / "h.sqlite"))
    return history_path()


FACTS = {
    name: getattr(RECORD, name)
    for name in (
        *("model", "graph", "device", "cpu", "onnxruntime", "precision", "target", "agent", "seed", "kind"),
        *("weights", "images"),
    )
}


def keep(path, scores, *, on=True, warm=True, warnings=None):
    """One search that is kept, or gone on with."""
    there = path.exists()
    with Trials.open(path) if there else Trials.create(path) as trials:
        said = [] if warnings is None else warnings
        keeper = Keeper.start(SPACE, FACTS, trials, said.append, keep=on, warm=warm)
        for score in scores:
            keeper.add(trials.add({"a": 8, "b": 4}, Outcome(score, 0.5)))
        keeper.close()
        return keeper


def test_a_search_is_kept_and_the_next_one_starts_from_it(store, tmp_path):
    first = keep(tmp_path / "1.sqlite", np.linspace(0.1, 0.9, 12))
    assert first.past is None
    assert first.note() == ""
    second = keep(tmp_path / "2.sqlite", [0.5])
    assert second.past.trials == 12
    assert "net.onnx to 0.6x on cpu:threads=1 (memory)" in second.note()


def test_a_resumed_search_starts_from_what_it_started_from(store, tmp_path):
    keep(tmp_path / "1.sqlite", np.linspace(0.1, 0.9, 12))
    before = keep(tmp_path / "2.sqlite", [0.5, 0.6]).past
    keep(tmp_path / "3.sqlite", np.linspace(0.1, 0.9, 12))
    store.unlink()  # whatever became of the store
    assert keep(tmp_path / "2.sqlite", [0.7]).past == before
    with History.open(store) as history:
        (record,) = history.records()
        assert [trial.outcome.score for trial in history.trials(record)] == [0.5, 0.6, 0.7]


def test_without_a_warm_start_a_search_is_kept_all_the_same(store, tmp_path):
    keep(tmp_path / "1.sqlite", np.linspace(0.1, 0.9, 12))
    assert keep(tmp_path / "2.sqlite", [0.5], warm=False).past is None
    assert keep(tmp_path / "2.sqlite", [0.6]).past is None  # going on with it does not change that
    with History.open(store) as history:
        assert sorted(len(history.trials(record)) for record in history.records()) == [2, 12]


def test_failed_candidates_are_not_kept(store, tmp_path):
    with Trials.create(tmp_path / "1.sqlite") as trials:
        keeper = Keeper.start(SPACE, FACTS, trials, [].append, keep=True)
        keeper.add(trials.add_failed({"a": 8, "b": 4}, 1.0))
        keeper.add(trials.add({"a": 4, "b": 4}, Outcome(0.5, 0.4)))
        keeper.close()
    with History.open(store) as history:
        (record,) = history.records()
        assert [trial.outcome.score for trial in history.trials(record)] == [0.5]


def test_without_history_nothing_is_read_or_written(store, tmp_path):
    keep(tmp_path / "1.sqlite", np.linspace(0.1, 0.9, 12), on=False)
    assert not store.exists()
    assert keep(tmp_path / "1.sqlite", [0.4]).past is None  # going on with it does not change that
    assert not store.exists()


def test_trouble_with_the_store_is_told_and_the_search_goes_on(store, tmp_path):
    store.write_text("not a database, though long enough to be looked at" * 50)
    warnings = []
    keep(tmp_path / "1.sqlite", [0.5], warnings=warnings)
    assert len(warnings) == 1
    assert str(store) in warnings[0]
    with Trials.open(tmp_path / "1.sqlite") as trials:
        assert len(trials) == 1
