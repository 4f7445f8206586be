"""`ortrim compress` from end to end, on a small net: results, resuming, interrupting, replaying."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import time

import onnx
import pytest

from ortrim.compressor.files import sha256
from ortrim.graph import analyze

pytestmark = pytest.mark.slow

EPISODES = 5


@pytest.fixture(scope="module")
def flags(small_net, small_images):
    return ("compress", small_net, "--data", small_images, "--latency", "0.8x", "--calibration", "48")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compress")


@pytest.fixture(scope="module")
def done(process, flags, folder):
    """A finished process; its run is `folder/run`."""
    output = ("-o", folder / "slim.onnx", "--run-dir", folder / "run")
    return process(*flags, *output, "--episodes", EPISODES, "--json")


@pytest.fixture(scope="module")
def report(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def trials(run):
    """Plans, scores and ratios on record, of a run that may be going on."""
    with contextlib.closing(sqlite3.connect(f"file:{run / 'trials.sqlite'}?mode=ro", uri=True)) as record:
        return record.execute("SELECT plan, score, ratio FROM trials ORDER BY id").fetchall()


def wait_for_trials(run, count, process):
    """Until a running process has `count` trials on disk."""
    patience = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < patience:
        with contextlib.suppress(sqlite3.Error):  # not there yet, or being written at this moment
            if len(trials(run)) >= count:
                return
        time.sleep(0.02)
    pytest.fail(f"no {count} trials: {process.communicate()}")


def check_result(report, run, slim):
    assert report["latency"]["ratio"] <= 0.8
    assert report["slim"]["sha256"] == sha256(slim) == sha256(run / "slim.onnx")
    onnx.checker.check_model(onnx.load(slim), full_check=True)
    assert (run / "report.html").read_text().startswith("<!")


def test_the_result_as_json(report, small_net, folder):
    check_result(report, folder / "run", folder / "slim.onnx")
    assert report["model"]["path"] == str(small_net)
    assert report["slim"]["parameters"] < report["model"]["parameters"]
    assert report["score"]["kind"] == "agreement"
    assert report["search"]["agent"] == "ortrim"
    assert report["search"]["episodes"] == EPISODES == len(trials(folder / "run"))
    assert {name: group["size"] for name, group in report["plan"].items()} == {
        group.name: group.size for group in analyze(small_net).groups
    }
    assert report["run_dir"] == str(folder / "run")
    for stairs in report["staircases"]:
        assert len(stairs["widths"]) == len(stairs["milliseconds"]) >= len(stairs["steps"]) > 1
        assert stairs["widths"][-1] == report["plan"][stairs["group"]]["size"]


def test_all_else_is_on_standard_error(done):
    assert "search 5/5" in done.stderr
    assert "96 images" in done.stderr  # fewer than wanted: a note
    assert "Traceback" not in done.stderr


def test_a_run_is_not_written_over(report, refused, flags, folder):
    again = (*flags, "--episodes", EPISODES, "--run-dir", folder / "run")
    before = (folder / "run" / "report.json").read_bytes()
    assert "--force" in refused(2, *again, "-o", folder / "slim.onnx")
    assert "--resume" in refused(2, *again, "-o", folder / "other.onnx")
    assert (folder / "run" / "report.json").read_bytes() == before


def test_the_report_can_be_made_again(report, ortrim, folder):
    page = folder / "run" / "report.html"
    before = page.read_text()
    page.unlink()
    shown = ortrim("report", folder / "run")
    assert shown.exit_code == 0
    assert page.read_text() == before
    for part in ("latency", "agreement", "parameters", "MACs", "file", str(page), report["slim"]["path"]):
        assert part in shown.stdout
    assert f"{report['latency']['ratio']:.3f}x" in shown.stdout
    assert json.loads(ortrim("report", folder / "run", "--json").stdout) == report


def test_a_run_that_has_not_ended_has_no_report(report, refused, folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_bytes((folder / "run" / "settings.json").read_bytes())
    assert "--resume" in refused(2, "report", tmp_path / "run")


def test_the_same_seed_and_latencies_give_the_same_search(report, process, flags, folder, place):
    """Shown as a table this time; the run directory is beside the output unless it is named."""
    replay = (*flags, "--episodes", EPISODES, "--device", f"replay:{folder / 'run'}")
    again = process(*replay, "-o", "again.onnx")
    assert again.returncode == 0, again.stderr
    assert trials(place / "again.onnx.run") == trials(folder / "run")
    repeated = json.loads((place / "again.onnx.run" / "report.json").read_bytes())
    for key in ("plan", "score", "latency", "trials"):
        assert repeated[key] == report[key]
    assert "0.8x is met" in again.stdout
    assert "again.onnx.run/report.html" in again.stdout


def test_a_killed_run_goes_on(report, start, process, flags, folder):
    run, slim = folder / "killed", folder / "killed.onnx"
    command = (*flags, "--agent", "greedy", "--episodes", EPISODES, "-o", slim, "--run-dir", run, "--json")
    with start(*command) as running:
        wait_for_trials(run, 3, running)
        running.kill()
    assert running.returncode == -signal.SIGKILL
    assert not slim.exists()
    kept = trials(run)
    resumed = process(*command, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    check_result(json.loads(resumed.stdout), run, slim)
    assert trials(run)[: len(kept)] == kept
    assert len(trials(run)) == EPISODES


def test_ctrl_c_ends_with_the_best_so_far(report, start, flags, folder):
    """With an agent that uses all its episodes: greedy is done when nothing is left to try."""
    run, slim = folder / "stopped", folder / "stopped.onnx"
    with start(*flags, "--agent", "ddpg", "--episodes", 200, "-o", slim, "--run-dir", run, "--json") as running:
        wait_for_trials(run, 2, running)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=180)
    assert running.returncode == 0, err
    assert "Traceback" not in err
    stopped = json.loads(out)
    check_result(stopped, run, slim)
    assert 2 <= stopped["search"]["episodes"] < 200
    assert any("interrupted" in note for note in stopped["notes"])
