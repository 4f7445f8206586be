"""The record of a run: exact, safe against kill -9, refused in one line when it is not what it should be."""

import json
import sqlite3
import subprocess
import sys

import pytest

from ortrim.compressor.search.space import Outcome
from ortrim.compressor.search.trials import Trials
from ortrim.errors import OutputError, RunError

PLAN = {"a": 16, "b": 0}


def test_what_goes_in_comes_out_exactly(tmp_path):
    outcome = Outcome(score=1 / 3, ratio=0.1 + 0.2, seconds=2 / 7)
    with Trials.create(tmp_path / "trials.sqlite", meta={"agent": "ddpg", "seed": 0}) as trials:
        added = trials.add(PLAN, outcome, low=0.29, high=0.31, baseline_ms=1.7, candidate_ms=0.5)
        trials.add({"a": 8, "b": 4}, Outcome(0.5, 0.6))
    with Trials.open(tmp_path / "trials.sqlite") as trials:
        first, second = trials
        assert len(trials) == 2
        assert trials.meta == {"agent": "ddpg", "seed": 0}
    assert first == added
    assert first.id == 1
    assert first.plan == PLAN
    assert first.outcome == outcome
    assert (first.low, first.high, first.baseline_ms, first.candidate_ms) == (0.29, 0.31, 1.7, 0.5)
    assert second.low is None
    assert second.created >= first.created > 1.7e9


def test_best_is_the_best_that_meets_the_target_or_the_nearest_miss(tmp_path):
    with Trials.create(tmp_path / "trials.sqlite") as trials:
        assert trials.best(0.6) is None
        for score, ratio in [(0.99, 0.9), (0.7, 0.59), (0.8, 0.6), (0.8, 0.55), (0.97, 0.61)]:
            trials.add(PLAN, Outcome(score, ratio))
        assert [trials.best(target).id for target in (0.6, 0.58, 0.5, 1.0)] == [4, 4, 4, 1]


def test_measurements_are_replaced_and_recalled(tmp_path):
    with Trials.create(tmp_path / "trials.sqlite") as trials:
        trials.record("table", {"conv": [0.1, 0.2]})
        trials.record("table", {"conv": [0.3]})
    with Trials.open(tmp_path / "trials.sqlite") as trials:
        assert trials.recall("table") == {"conv": [0.3]}
        assert trials.recall("baseline") is None


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    with Trials.create(tmp_path / "trials.sqlite") as trials:
        with pytest.raises(ValueError, match="finite"):
            trials.add(PLAN, Outcome(0.9, float("nan")))
        assert len(trials) == 0


def test_a_candidate_that_failed_is_kept_and_is_worth_the_least(tmp_path):
    with Trials.create(tmp_path / "trials.sqlite") as trials:
        trials.add_failed(PLAN, 1.5)
        assert trials.best(0.6).failed
        trials.add(PLAN, Outcome(0.1, 0.9))
    with Trials.open(tmp_path / "trials.sqlite") as trials:
        first, second = trials
        assert (first.failed, first.plan, first.outcome) == (True, PLAN, Outcome(0.0, float("inf"), 1.5))
        assert not second.failed
        assert trials.best(0.6) == second


def test_an_existing_file_is_not_overwritten(tmp_path):
    (tmp_path / "trials.sqlite").write_text("mine")
    with pytest.raises(OutputError, match=r"trials\.sqlite"):
        Trials.create(tmp_path / "trials.sqlite")
    assert (tmp_path / "trials.sqlite").read_text() == "mine"


@pytest.mark.parametrize(
    "content",
    [None, b"", b"not a database", b"SQLite format 3\0" + b"junk" * 300],
    ids=["missing", "empty", "text", "junk"],
)
def test_what_is_not_a_record_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "trials.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"trials\.sqlite") as caught:
        Trials.open(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_another_program_and_another_version_are_told_apart(tmp_path):
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE trials (id INTEGER)")
    connection.close()
    with pytest.raises(RunError, match="not a record of trials"):
        Trials.open(other)

    newer = tmp_path / "newer.sqlite"
    Trials.create(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RunError, match=r"another version of ortrim .*99"):
        Trials.open(newer)


CHILD = """
import sys
from ortrim.compressor.search.space import Outcome
from ortrim.compressor.search.trials import Trials

trials = Trials.create(sys.argv[1])
while True:
    n = len(trials)
    plan = {f"group{i}": n + i for i in range(60)}
    trial = trials.add(plan, Outcome(n / 1e4, 0.5), low=0.4, high=0.6)
    print(trial.id, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 40])
def test_what_add_returned_for_survives_kill_9(tmp_path, after):
    path = tmp_path / "trials.sqlite"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout as output:
        printed = [int(output.readline()) for _ in range(after)]
        child.kill()
        printed += [int(line) for line in output.read().splitlines()]
    assert child.wait() != 0

    with Trials.open(path) as trials:
        found = list(trials)
        # The child may have been killed between the commit and the print: one more at most.
        assert [trial.id for trial in found] == list(range(1, len(found) + 1))
        assert len(printed) <= len(found) <= len(printed) + 1
        for n, trial in enumerate(found):
            assert trial.plan == {f"group{i}": n + i for i in range(60)}
            assert trial.outcome == Outcome(n / 1e4, 0.5)
        assert trials.add(PLAN, Outcome(1.0, 0.5)).id == len(found) + 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert json.loads(connection.execute("SELECT plan FROM trials ORDER BY id DESC").fetchone()[0]) == PLAN
    connection.close()
