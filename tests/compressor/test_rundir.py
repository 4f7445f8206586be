import json
import logging
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from ortrim.compressor.rundir import RunDirectory
from ortrim.errors import OutputError, RunError

SETTINGS = {"model": "abc", "target": "0.6x", "seed": 0, "shape": [1, 3], "finetune": {"epochs": None, "minutes": 20}}


def names(path):
    return sorted(entry for entry in os.listdir(path) if entry != ".lock")


def test_a_new_run(tmp_path):
    with RunDirectory.start(tmp_path / "runs" / "first", SETTINGS) as run:
        assert not run.resumed
        assert run.settings() == SETTINGS
        assert run.report_html.name == "report.html"
        run.write("report.json", b"{}")
    assert names(run.path) == ["report.json", "settings.json"]
    assert RunDirectory.open(run.path).settings() == SETTINGS


def test_only_known_files_are_written(tmp_path):
    with RunDirectory.start(tmp_path / "run", SETTINGS) as run, pytest.raises(OutputError, match=r"other\.txt"):
        run.write("other.txt", b"")


def test_a_second_process_is_kept_out(tmp_path):
    with RunDirectory.start(tmp_path, SETTINGS):
        for options in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(RunError, match="in use"):
                RunDirectory.start(tmp_path, SETTINGS, **options)
    first = RunDirectory.start(tmp_path, SETTINGS, resume=True)
    first.close()
    RunDirectory.start(tmp_path, SETTINGS, resume=True).close()


def test_a_failed_start_lets_go_of_the_directory(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        with pytest.raises(OutputError, match="not empty"):
            RunDirectory.start(tmp_path, SETTINGS)


def test_a_run_that_is_there(tmp_path):
    with RunDirectory.start(tmp_path, SETTINGS) as run:
        run.trials.write_bytes(b"trials")
        (tmp_path / "trials.sqlite-wal").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"--resume.*--force"):
        RunDirectory.start(tmp_path, SETTINGS)
    with RunDirectory.start(tmp_path, SETTINGS, resume=True) as run:
        assert run.resumed
        assert run.trials.read_bytes() == b"trials"
    with RunDirectory.start(tmp_path, SETTINGS | {"seed": 1}, force=True) as run:
        assert not run.resumed
        assert names(tmp_path) == ["notes.txt", "settings.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "started with seed 0, not 1"),
        ({"finetune": {"epochs": None, "minutes": 30}}, "started with finetune minutes 20, not 30"),
        ({"finetune": None}, "not null"),
        ({"model": "x" * 100}, 'model "abc", not "xxx'),
        ({"agent": "ddpg"}, 'agent null, not "ddpg"'),
    ],
)
def test_resuming_needs_the_same_settings(tmp_path, change, message):
    RunDirectory.start(tmp_path, SETTINGS).close()
    with pytest.raises(RunError) as caught:
        RunDirectory.start(tmp_path, SETTINGS | change, resume=True)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert RunDirectory.open(tmp_path).settings() == SETTINGS


def test_a_setting_that_is_left_out_differs(tmp_path):
    RunDirectory.start(tmp_path, SETTINGS).close()
    with pytest.raises(RunError, match="seed 0, not null"):
        RunDirectory.start(tmp_path, {k: v for k, v in SETTINGS.items() if k != "seed"}, resume=True)


def test_some_settings_may_change(tmp_path):
    RunDirectory.start(tmp_path, SETTINGS | {"episodes": 100}).close()
    with RunDirectory.start(tmp_path, SETTINGS | {"episodes": 200}, resume=True, may_change=["episodes"]) as run:
        assert run.resumed
        assert run.settings()["episodes"] == 200


def test_tuples_are_as_good_as_lists(tmp_path):
    RunDirectory.start(tmp_path, SETTINGS).close()
    RunDirectory.start(tmp_path, SETTINGS | {"shape": (1, 3)}, resume=True).close()


def test_nothing_to_resume(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        RunDirectory.start(tmp_path / "none", SETTINGS, resume=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"no run.*notes.txt"):
        RunDirectory.start(tmp_path, SETTINGS, resume=True)


def test_a_run_killed_before_its_settings_starts_afresh(tmp_path):
    (tmp_path / "log.txt").write_text("")
    (tmp_path / ".settings.json.ab12.part").write_text("{")
    with RunDirectory.start(tmp_path, SETTINGS, resume=True) as run:
        assert not run.resumed
    assert names(tmp_path) == ["settings.json"]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_lets_go(tmp_path):
    code = """
        import sys
        from ortrim.compressor.rundir import RunDirectory
        run = RunDirectory.start(sys.argv[1], {"seed": 0}).__enter__()
        (run.path / ".report.json.ab12.part").write_text("half")
        print("locked", flush=True)
        sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(RunError, match="in use"):
        RunDirectory.start(tmp_path, {"seed": 0}, resume=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with RunDirectory.start(tmp_path, {"seed": 0}, resume=True) as run:
        assert run.resumed
    assert names(tmp_path) == ["settings.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_damaged_settings(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(RunError, match=r"settings.json cannot be read"):
        RunDirectory.start(tmp_path, SETTINGS, resume=True)


def test_places_that_are_no_directory(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match="cannot be written"):
            RunDirectory.start(place, SETTINGS)
    with pytest.raises(RunError, match="not a run directory"):
        RunDirectory.open(tmp_path)


def test_the_log_goes_on_where_it_ended(tmp_path):
    logger = logging.getLogger("ortrim.test")
    logging.getLogger("ortrim").setLevel(logging.INFO)
    try:
        for message in ("first", "second"):
            with RunDirectory.start(tmp_path, SETTINGS, resume=message == "second"):
                logger.info(message)
            logger.info("outside")
    finally:
        logging.getLogger("ortrim").setLevel(logging.NOTSET)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["first", "second"]


def test_settings_are_readable(tmp_path):
    RunDirectory.start(tmp_path, {"name": "Zürich"}).close()
    text = (tmp_path / "settings.json").read_text(encoding="utf-8")
    assert "Zürich" in text
    assert json.loads(text) == {"name": "Zürich"}
