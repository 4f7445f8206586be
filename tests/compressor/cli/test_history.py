"""`ortrim history`, and that `compress` keeps and uses it."""

import json

import pytest

from ortrim.errors import InputError


@pytest.fixture
def store(tmp_path, monkeypatch):
    path = tmp_path / "history.sqlite"
    monkeypatch.setenv("ORTRIM_HISTORY", str(path))
    return path


@pytest.fixture
def compress(ortrim, small_net, small_images, tmp_path):
    def run(target, *flags):
        result = ortrim(
            *("compress", small_net, "--data", small_images, "--latency", target, "-o", tmp_path / f"{target}.onnx"),
            *("--episodes", "10", "--agent", "ortrim", "--calibration", "48", "--json", "--force", *flags),
        )
        assert result.exit_code == 0, result.stderr
        return result

    return run


@pytest.mark.slow
def test_searches_are_kept_listed_moved_and_forgotten(ortrim, compress, tmp_path, store):
    empty = ortrim("history")
    assert "no searches are kept" in empty.stdout
    first = compress("0.8x")
    assert "warm start" not in first.stderr
    (run,) = json.loads(ortrim("history", "list", "--json").stdout)["runs"]
    assert (run["trials"], run["target"], run["agent"]) == (10, 0.8, "ortrim")

    second = compress("0.7x")
    assert "warm start from 10 earlier candidates" in second.stderr
    assert "(target)" in second.stderr
    assert any("warm start" in note for note in json.loads(second.stdout)["notes"])

    shown = ortrim("history", "show", run["id"][:6])
    assert shown.exit_code == 0
    assert "10 candidates" in shown.stdout
    assert "best so far" in shown.stdout
    listed = ortrim("history")
    assert listed.stdout.count("cpu:threads=1") == 2

    out = tmp_path / "all.jsonl"
    assert "2 searches" in ortrim("history", "export", "-o", out).stdout
    assert ortrim("history", "export", "-o", out).exit_code == 2  # it is there
    assert "2 searches forgotten" in ortrim("history", "prune", "--all").stdout
    assert "2 new searches of 2" in ortrim("history", "import", out).stdout
    assert "0 searches forgotten" in ortrim("history", "prune", "--older-than", "1").stdout
    assert "1 searches forgotten" in ortrim("history", "prune", run["id"]).stdout


@pytest.mark.parametrize(
    ("flags", "asked"),
    [((), (True, True)), (("--no-warm-start",), (True, False)), (("--no-history",), (False, True))],
)
def test_a_search_may_start_from_nothing_and_be_kept(ortrim, small_net, small_images, monkeypatch, flags, asked):
    seen = {}

    def compress(model, **settings):
        seen.update(settings)
        raise InputError("that is all")

    monkeypatch.setattr("ortrim.compressor.pipeline.compress", compress)
    ortrim("compress", small_net, "--data", small_images, "--latency", "0.8x", "-o", "slim.onnx", *flags)
    assert (seen["history"], seen["warm_start"]) == asked


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("prune",), "--older-than"),
        (("show", "dead"), "no run"),
        (("import", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_refusals_are_one_line(ortrim, store, args, said):
    result = ortrim("history", *args)
    assert result.exit_code == 2
    assert said in result.stderr.splitlines()[-1]
    assert len(result.stderr.splitlines()) == 1
