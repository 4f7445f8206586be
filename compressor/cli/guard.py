"""The one place where errors end: a line on standard error and an exit status, never a traceback without `-v`."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from ...errors import OrtrimError

__all__ = ["GuardedGroup", "interrupted_hint", "quiet_onnxruntime", "set_verbosity", "verbosity"]

JOB_FAILED = 1
INTERRUPTED = 130
"""What shells report of a process that SIGINT ended: 128 + 2."""

_VERBOSITY = "ortrim.verbosity"
_HINT = "ortrim.interrupted"
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def set_verbosity(context: click.Context, count: int) -> None:
    """How much this run says on standard error: 0 warnings, 1 what is being done and tracebacks, 2 everything."""
    context.meta[_VERBOSITY] = count
    for handler in logging.getLogger("ortrim").handlers:
        if isinstance(handler, _StandardError):
            handler.setLevel(_LEVELS[min(count, 2)])


def verbosity(context: click.Context) -> int:
    """How often `-v` was given."""
    return context.meta.get(_VERBOSITY, 0)


def interrupted_hint(context: click.Context, hint: str) -> None:
    """What to tell a user who presses Ctrl-C from now on."""
    context.meta[_HINT] = hint


def quiet_onnxruntime() -> None:
    """Keep what onnxruntime writes past Python's streams off the terminal; what matters comes as an exception too."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)


class GuardedGroup(click.Group):
    """A group of commands that end as the interface promises.

    0 done; 1 the job failed for a reason given in one line; 2 bad usage or bad input, in one line; 130 interrupted.
    """

    def main(self, *args: Any, **options: Any) -> NoReturn:  # noqa: ANN401 (click's, handed on)
        """Run a command and leave the process."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A name that the terminal's encoding lacks should not end the command.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            status = super().main(*args, **{"prog_name": "ortrim", **options, "standalone_mode": False})
        except click.ClickException as error:
            status = _fail(error.format_message(), error.exit_code)
        except click.Abort:
            status = _fail("interrupted", INTERRUPTED)
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that `ctx` names, and give its exit status where it fails."""
        with _terminal():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except OrtrimError as error:
                return _fail(str(error), error.exit_status, ctx)
            except KeyboardInterrupt:
                return _fail(f"interrupted{ctx.meta.get(_HINT, '')}", INTERRUPTED)
            except MemoryError:
                return _fail("out of memory", JOB_FAILED, ctx)
            except OSError as error:
                if error.errno == errno.EPIPE:
                    return _reader_left()
                return _fail(_os_reason(error), JOB_FAILED, ctx)
            except Exception as error:  # noqa: BLE001 (what nobody foresaw: the last handler there is)
                what = f"internal error: {type(error).__name__}: {error}"
                return _fail(f"{what}; run with -v for the traceback, and please report it", JOB_FAILED, ctx)


def _fail(message: str, status: int, ctx: click.Context | None = None) -> int:
    """Say in one line why the command ends; with `-v` after the traceback of the exception at hand."""
    if ctx is not None and ctx.meta.get(_VERBOSITY):
        click.echo(traceback.format_exc(), err=True, nl=False)
    click.echo(f"Error: {' '.join(line.strip() for line in message.splitlines())}", err=True)
    return status


def _os_reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{os.fsdecode(error.filename)}: {reason}" if error.filename is not None else reason


def _reader_left() -> int:
    """`ortrim ... | head`: nobody reads on, so nothing more is written, not even when Python flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return JOB_FAILED


class _StandardError(logging.Handler):
    """Log lines on whatever standard error is at that moment: a progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


@contextmanager
def _terminal() -> Iterator[None]:
    """Log lines of ortrim go to standard error; warnings of Python libraries are not the user's concern."""
    log = logging.getLogger("ortrim")
    level, handler = log.level, _StandardError(logging.WARNING)
    log.setLevel(logging.DEBUG)  # handlers choose; the one of a run directory takes more than the terminal
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
