"""Results on standard output: tables for people, JSON for programs. Everything else goes to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.tree import Tree

if TYPE_CHECKING:
    from ..report import ReportData

__all__ = [
    "before_and_after",
    "headline",
    "note",
    "progress_bar",
    "say",
    "show_json",
    "show_table",
    "show_tree",
    "table",
    "width",
]

_WIDE = 10_000
"""Columns where there is no terminal: what reads a pipe is not helped by names cut to 80."""

_PAGE = 100
"""Columns of what is laid out in lines, where there is no terminal."""


def show_json(result: Mapping[str, object]) -> None:
    """One JSON object."""
    click.echo(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))


def say(text: str) -> None:
    """A line of the result."""
    click.echo(text)


def note(text: str) -> None:
    """A line beside the result, that the user should know."""
    click.echo(f"note: {text}", err=True)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while something long is done, where that is a terminal: told (done, in all)."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def table(*headers: str) -> Table:
    """An empty table. A header that begins with `>` makes a column of figures, aligned to the right."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    for header in headers:
        figures = header.startswith(">")
        # Long names go on in the next line where a terminal is narrow; figures stay in one piece.
        made.add_column(
            header.removeprefix(">"), justify="right" if figures else "left", no_wrap=figures, overflow="fold"
        )
    return made


def show_table(made: Table) -> None:
    """Print a table, cells that are too wide for a terminal in several lines."""
    _console().print(made)


def show_tree(made: Tree) -> None:
    """Print a tree as it is: whoever made its lines chose them for `width()`, and nothing should be cut off names."""
    console = _console()
    console.width = _WIDE
    console.print(made)


def width() -> int:
    """Columns that lines of the result may have."""
    console = _console()
    return console.width if console.is_terminal else _PAGE


def _console() -> Console:
    """Standard output. Names of layers are shown as they are, whatever brackets or colons they hold."""
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def before_and_after() -> Table:
    """The table that compares the slim model with the original."""
    return table("", ">original", ">slim", ">change")


def headline(report: ReportData, run: Path) -> None:
    """What came of a compression, and where it lies."""
    from ..report.html import change, points, short

    latency, score, before, after = report.latency, report.score, report.model, report.slim
    rows = before_and_after()
    rows.add_row("latency", f"{latency.baseline_ms:.3g} ms", f"{latency.slim_ms:.3g} ms", f"{latency.ratio:.3f}x")
    rows.add_row(
        f"{100 * latency.confidence:.0f} % interval",
        _interval(latency.baseline_low_ms, latency.baseline_high_ms),
        _interval(latency.slim_low_ms, latency.slim_high_ms),
        f"{latency.low:.3f} to {latency.high:.3f}",
    )
    rows.add_row(
        score.kind, f"{100 * score.baseline:.2f} %", f"{100 * score.slim:.2f} %", points(score.slim - score.baseline)
    )
    rows.add_row(
        "parameters", short(before.parameters), short(after.parameters), change(before.parameters, after.parameters)
    )
    rows.add_row("MACs", short(before.macs), short(after.macs), change(before.macs, after.macs))
    rows.add_row("file", short(before.bytes, "B"), short(after.bytes, "B"), change(before.bytes, after.bytes))
    show_table(rows)
    if report.devices:
        each = table("device", ">original", ">slim", ">ratio", ">interval")
        for one in report.devices:
            each.add_row(
                one.spec,
                f"{one.baseline_ms:.3g} ms",
                f"{one.slim_ms:.3g} ms",
                f"{one.ratio:.3f}x",
                f"{one.low:.3f} to {one.high:.3f}",
            )
        show_table(each)
    if report.front:
        front = table("net", ">target", ">measured", f">{score.kind}", ">parameters")
        for net in report.front:
            front.add_row(
                net.path, f"{net.target:.3f}x", f"{net.ratio:.3f}x", f"{100 * net.score:.2f} %", short(net.parameters)
            )
        show_table(front)
    device = report.device
    say(
        f"latency on {device.spec} ({device.provider}, onnxruntime {device.onnxruntime}): the target of "
        f"{report.target.ratio:.3g}x is {'met' if report.met else 'NOT met'}"
    )
    part = "in calibration or search" if score.fresh else "in calibration; candidates were compared on them"
    say(f"{score.kind} ({score.detail}) on {score.images:,} images that took no part {part}")
    say(f"slim model: {after.path}")
    say(f"report:     {run / 'report.html'}")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3g} to {high:.3g}"
