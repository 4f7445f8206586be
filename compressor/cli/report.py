"""`ortrim report`: the report of a run again, from its `report.json`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import FILE, json_option, verbose_option
from .show import headline, show_json

__all__ = ["command"]


@click.command("report")
@click.argument("run", type=FILE, metavar="RUN")
@json_option
@verbose_option
def command(run: Path, as_json: bool) -> None:
    """Make the report of a run again.

    RUN is a run directory; report.html is made from its report.json, and the headline shown.
    """
    from ..report import read_report, to_html, to_json
    from ..rundir import RunDirectory

    directory = RunDirectory.open(run)
    report = read_report(directory.report_json)
    directory.write(directory.report_html.name, to_html(report).encode())
    if as_json:
        show_json({**json.loads(to_json(report)), "run_dir": str(run)})
        return
    headline(report, run)
