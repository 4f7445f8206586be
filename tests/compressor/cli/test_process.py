"""The command as a process: exit status, streams, start-up time, a reader that leaves."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ortrim.models import digits


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bad_input(process, place):
    (place / "random.onnx").write_bytes(b"\x00\x01\x02 no model")
    done = process("inspect", "random.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: random.onnx")
    assert done.stderr.count("\n") == 1


def test_verbose_shows_the_traceback(process):
    done = process("inspect", "gone.onnx", "-v")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "Error: gone.onnx: no such file"


def test_a_job_that_failed(process, frozen_net, place):
    done = process("prune", frozen_net, "--ratio", "0.5", "-o", "slim.onnx")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not list(place.iterdir())


def test_json_is_alone_on_standard_output(process, place):
    done = process("prune", digits.MODEL, "--ratio", "0.5", "-o", "slim.onnx", "--json", "-vv")
    assert done.returncode == 0
    assert json.loads(done.stdout)["slim"]["path"] == "slim.onnx"


def test_version_and_help(process, ortrim):
    assert process("--version").stdout.startswith("ortrim 0.")
    shown = ortrim("--help")
    assert shown.exit_code == 0
    for name in ("compress", "inspect", "bench", "prune", "evaluate", "trace", "report"):
        assert f"  {name} " in shown.stdout
        assert "--json" in ortrim(name, "-h").stdout


def test_no_command_shows_the_help(ortrim):
    result = ortrim()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


def test_help_is_quick():
    seconds = python(
        "import contextlib, io, sys, time\n"
        "from ortrim.compressor.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(['compress', '--help'])\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(time.process_time())\n"
    )
    assert float(seconds) < 0.5


@pytest.mark.parametrize("command", ["inspect", "bench"])
def test_what_needs_no_torch_does_not_wait_for_it(command):
    flags = ", '--seconds', '0.1'" if command == "bench" else ""
    python(
        "import contextlib, sys\n"
        "from ortrim.compressor.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        f"    main(['{command}', {str(digits.MODEL)!r}{flags}])\n"
        "assert 'onnxruntime' in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )


def test_a_reader_that_leaves(start):
    with start("inspect", digits.MODEL) as running:
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 1
