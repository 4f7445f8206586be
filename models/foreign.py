"""Running code that is not ours: a user's factory, a net's forward, the exporter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InputError, OrtrimError

__all__ = ["refusing"]

LONGEST = 240
"""Characters of a foreign message that are worth repeating; `-v` shows the rest."""


@contextmanager
def refusing(what: str, *, hint: str = "") -> Iterator[None]:
    """Turn whatever goes wrong inside into one line: `what`, the first cause, then `hint`.

    Raises:
        InputError: anything was raised that is not an error of ortrim already.
    """
    try:
        yield
    except OrtrimError:
        raise
    except Exception as error:  # code that we do not know may raise anything
        cause = error
        while cause.__cause__ is not None:  # exporters wrap what went wrong in pages of advice
            cause = cause.__cause__
        text = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")[:LONGEST]
        raise InputError(f"{what}: {type(cause).__name__}: {text}{'; ' + hint if hint else ''}") from error
