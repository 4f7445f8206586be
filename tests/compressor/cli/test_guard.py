"""Where errors end: one line and an exit status, whatever was raised."""

from __future__ import annotations

import errno
import logging
import warnings

import click
import pytest
from click.testing import CliRunner

from ortrim.compressor.cli.guard import GuardedGroup, interrupted_hint
from ortrim.compressor.cli.options import verbose_option
from ortrim.errors import DataError, DeviceError


def run(action, *flags):
    """A command of a guarded group that does `action()`."""

    @click.group(cls=GuardedGroup)
    def group():
        pass

    @group.command("do")
    @verbose_option
    @click.pass_context
    def do(context):
        action(context)

    return CliRunner().invoke(group, ["do", *flags])


def raising(error):
    def action(_):
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("images.npz has no images"), 2, "Error: images.npz has no images"),
        (DeviceError("the device\nis gone"), 1, "Error: the device is gone"),
        (KeyboardInterrupt(), 130, "Error: interrupted"),
        (MemoryError(), 1, "Error: out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "a.onnx"), 1, "Error: a.onnx: No space left on device"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "Error: internal error: ZeroDivisionError: division by zero; "
            "run with -v for the traceback, and please report it",
        ),
    ],
)
def test_every_error_is_one_line(error, status, line):
    result = run(raising(error))
    assert (result.exit_code, result.stderr, result.stdout) == (status, f"{line}\n", "")


@pytest.mark.parametrize("error", [DataError("no images"), ZeroDivisionError("division by zero")])
def test_verbose_shows_the_traceback_first(error):
    lines = run(raising(error), "-v").stderr.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("Error: ")


def test_a_hint_for_whoever_interrupts():
    def action(context):
        interrupted_hint(context, "; --resume goes on")
        raise KeyboardInterrupt

    assert run(action).stderr == "Error: interrupted; --resume goes on\n"


def test_a_command_may_choose_its_status():
    assert run(lambda context: context.exit(7)).exit_code == 7
    assert run(lambda context: None).exit_code == 0


def speak(_):
    log = logging.getLogger("ortrim.somewhere")
    log.debug("in detail")
    log.info("in short")
    log.warning("take care")
    warnings.warn("of a library", stacklevel=1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), ["take care"]),
        (("-v",), ["in short", "take care"]),
        (("-vv",), ["in detail", "in short", "take care"]),
        (("-v", "-v", "-v"), ["in detail", "in short", "take care"]),
    ],
)
def test_how_much_is_said(flags, said, monkeypatch):
    monkeypatch.setattr("sys.warnoptions", [])  # pytest's own would show warnings
    result = run(speak, *flags)
    assert result.stderr.splitlines() == said
    assert result.stdout == ""


def test_nothing_stays_behind():
    log = logging.getLogger("ortrim")
    before = (log.level, list(log.handlers))
    run(speak, "-v")
    run(raising(DataError("no images")))
    assert (log.level, list(log.handlers)) == before


def test_a_file_name_that_the_terminal_cannot_show():
    result = run(lambda _: click.echo("caf\udce9.onnx"))
    assert result.exit_code == 0
    assert "onnx" in result.stdout
