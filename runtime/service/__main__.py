"""`python -m ortrim.runtime.service`: `ortrim serve` where only the measuring half of ortrim is installed."""

from __future__ import annotations

import sys

import click

from ...errors import OrtrimError
from .command import command

if __name__ == "__main__":
    try:
        command()
    except OrtrimError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_status)
