"""What a run leaves is enough to go on with it, and to repeat it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from ortrim.compressor import compress
from ortrim.compressor.search.trials import Trials
from ortrim.errors import RunError
from ortrim.graph import analyze, load


def cut_off(run, place, candidates):
    """A copy of a run as it was after so many candidates, with nothing handed out."""
    shutil.copytree(run, place)
    for name in ("report.json", "report.html", "slim.onnx"):
        (place / name).unlink()
    with Trials.open(place / "trials.sqlite") as trials:
        trials._connection.execute("DELETE FROM trials WHERE id > ?", (candidates,))
    return place


@pytest.fixture(scope="module", autouse=True)
def same_figures(steady):
    """A run that goes on measures its finalists again: they come out as they did."""
    with pytest.MonkeyPatch.context() as patch:
        steady(patch)
        yield


def test_a_replay_repeats_the_search_bit_for_bit(done, job, folder):
    again = compress(**{**job, "device": f"replay:{done.run_dir}"}, run_dir=folder / "again")
    with Trials.open(done.run_dir / "trials.sqlite") as first, Trials.open(again.run_dir / "trials.sqlite") as second:
        one, two = ([(trial.plan, trial.score, trial.ratio) for trial in trials] for trials in (first, second))
    assert one == two
    assert again.plan == done.plan
    assert again.score == done.score


@pytest.fixture(scope="module")
def stepped(job, folder):
    return compress(**job, steps=2, run_dir=folder / "steps", output=folder / "stepped.onnx")


def test_steps_lead_to_the_target_and_can_be_replayed(stepped, job, folder):
    done, run = stepped, stepped.run_dir
    assert done.latency.value <= 0.5
    half = analyze(load(run / "step1" / "slim.onnx"))
    sizes = {group.name: group.size for group in analyze(load(job["model"])).groups}
    for group in half.groups:
        assert done.plan.get(group.name, group.size) <= group.size <= sizes[group.name]
    slim = {group.name: group.size for group in analyze(load(done.output)).groups}
    assert {name: done.plan.get(name, size) for name, size in sizes.items()} == slim
    names = [stage.name for stage in done.report.stages]
    assert "step 1 of 2: search" in names
    assert "step 2 of 2: search" in names
    again = compress(**{**job, "device": f"replay:{run}"}, steps=2, run_dir=folder / "steps again")
    assert again.plan == done.plan
    assert again.score == done.score


def test_a_step_that_is_done_is_not_done_again(stepped, job, folder):
    run = cut_off(stepped.run_dir, folder / "steps cut", 2)
    before = (run / "step1" / "slim.onnx").stat().st_mtime_ns
    done = compress(**job, steps=2, run_dir=run, resume=True)
    assert (run / "step1" / "slim.onnx").stat().st_mtime_ns == before
    assert done.latency.value <= 0.5
    assert not any(stage.name == "step 1 of 2: search" for stage in done.report.stages)


def test_another_seed_cannot_be_replayed(done, job, folder):
    with pytest.raises(RunError, match="replay a run with its own"):
        compress(**{**job, "device": f"replay:{done.run_dir}", "seed": 5, "agent": "random"}, run_dir=folder / "other")


def test_a_run_that_was_cut_off_goes_on(done, job, folder):
    cut = cut_off(done.run_dir, folder / "cut", 3)
    with Trials.open(done.run_dir / "trials.sqlite") as trials:
        kept = [(trial.plan, trial.score, trial.ratio) for trial in trials][:3]
    result = compress(**job, output=folder / "cut.onnx", run_dir=cut, resume=True)
    with Trials.open(cut / "trials.sqlite") as trials:
        after = [(trial.plan, trial.score, trial.ratio) for trial in trials]
    assert after[:3] == kept
    assert len(after) == job["episodes"]
    assert result.latency.value <= 0.5


def test_a_run_whose_candidates_the_agent_would_not_have_asked_for_says_so(done, job, folder):
    foreign = folder / "foreign"
    shutil.copytree(done.run_dir, foreign)
    with Trials.open(foreign / "trials.sqlite") as trials:
        first = next(iter(trials))
        other = {group: kept if number else 1 for number, (group, kept) in enumerate(first.plan.items())}
        trials._connection.execute("UPDATE trials SET plan = ? WHERE id = 1", (json.dumps(other),))
    result = compress(**job, run_dir=foreign, resume=True)
    assert any("of 5 earlier candidates are not what --agent ortrim asks for" in note for note in result.report.notes)
    assert not any("earlier candidates are not" in note for note in done.report.notes)


def test_a_resumed_run_must_be_the_same_job(done, job):
    with pytest.raises(RunError, match="seed"):
        compress(**{**job, "seed": 7}, run_dir=done.run_dir, resume=True)


def test_a_resumed_run_scores_on_the_same_data_wherever_they_are(done, job, folder):
    moved = shutil.copy(job["data"], folder / "moved.npz")
    resumed = compress(**{**job, "data": moved}, run_dir=done.run_dir, resume=True)
    assert resumed.plan == done.plan
    with Trials.open(done.run_dir / "trials.sqlite") as trials:
        assert resumed.report.search.seconds >= sum(trial.seconds for trial in trials)  # they were made before
    with np.load(moved) as archive:
        np.savez(moved, images=archive["images"][::-1])
    with pytest.raises(RunError, match="data_identity"):
        compress(**{**job, "data": moved}, run_dir=done.run_dir, resume=True)
