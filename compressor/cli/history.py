"""`ortrim history`: the searches that later ones start from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...errors import InputError
from .options import FILE, force_option, json_option, verbose_option
from .show import say, show_json, show_table, table

if TYPE_CHECKING:
    from ..history import History, RunRecord
    from ..history.store import Summary

__all__ = ["command"]

SHORT = 8
"""Characters of a run's identifier that are shown."""
BEST = 5
"""Candidates that `show` lists."""
CURVE = 60
"""Blocks of the curve of the best score."""
DAY = 86_400.0


def _open() -> History:
    from ..history import History, history_path

    return History.open(history_path())


def _facts(line: Summary) -> dict[str, object]:
    record = line.record
    return {
        "id": record.uid,
        "created": datetime.fromtimestamp(record.created).isoformat(timespec="seconds"),
        "model": record.model,
        "graph": record.graph,
        "device": record.device,
        "precision": record.precision,
        "target": record.target,
        "agent": record.agent,
        "seed": record.seed,
        "score_kind": record.kind,
        "trials": line.trials,
        "best_score": line.best,
        "best_ratio": line.ratio,
    }


@click.group("history", invoke_without_command=True)
@json_option
@verbose_option
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> None:
    """List, show, export, import and prune past searches.

    New searches start from those that help (`compress --no-warm-start` begins without). They are kept in the user's
    data folder, or in the file that ORTRIM_HISTORY names.
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@command.command("list")
@json_option
@verbose_option
def list_command(as_json: bool) -> None:
    """All searches, latest first."""
    _list(as_json)


def _list(as_json: bool) -> None:
    with _open() as history:
        lines = list(history.summaries())
        path = str(history.path)
    if as_json:
        show_json({"store": path, "runs": [_facts(line) for line in lines]})
        return
    if not lines:
        say(f"no searches are kept in {path} yet")
        return
    grid = table("id", "when", "model", "device", "target", "agent", "trials", "best")
    for line in lines:
        record = line.record
        grid.add_row(
            record.uid[:SHORT],
            datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M"),
            record.model,
            record.device + ("" if record.precision == "fp32" else f", {record.precision}"),
            f"{record.target:.3g}x",
            record.agent,
            str(line.trials),
            "" if line.best is None else f"{line.best:.4f} at {line.ratio:.3f}x",
        )
    show_table(grid)


@command.command("show")
@click.argument("run", metavar="ID")
@json_option
@verbose_option
def show_command(run: str, as_json: bool) -> None:
    """One search: how it went, and its best candidates. ID may be shortened."""
    from .blocks import spark

    with _open() as history:
        record = history.find(run)
        trials = history.trials(record)
        (line,) = (line for line in history.summaries() if line.record.uid == record.uid)
    names = [choice.group for choice in record.choices]
    met = [
        (trial.outcome.score, number, trial)
        for number, trial in enumerate(trials, 1)
        if trial.outcome.ratio <= record.target
    ]
    best = sorted(met, key=lambda entry: (-entry[0], entry[1]))[:BEST]
    if as_json:
        plans = [
            {
                "trial": number,
                "score": score,
                "ratio": trial.outcome.ratio,
                "plan": dict(zip(names, trial.row, strict=True)),
            }
            for score, number, trial in best
        ]
        show_json({**_facts(line), "best": plans})
        return
    say(f"{record.uid}: {record.label}, {record.precision}, --agent {record.agent} --seed {record.seed}")
    say(f"{len(trials)} candidates over {len(names)} groups, {len(met)} met the target; score: {record.kind}")
    scores = [trial.outcome.score if trial.outcome.ratio <= record.target else 0.0 for trial in trials]
    if scores and max(scores) > 0:
        say(f"best so far: {spark(_curve(scores))}")
    grid = table("candidate", "score", "ratio", "widths kept")
    for score, number, trial in best:
        kept = ", ".join(
            f"{name} {width}/{choice.size}"
            for name, width, choice in zip(names, trial.row, record.choices, strict=True)
            if width < choice.size
        )
        grid.add_row(str(number), f"{score:.4f}", f"{trial.outcome.ratio:.4f}", kept)
    if best:
        show_table(grid)


def _curve(scores: Sequence[float]) -> list[float]:
    """The best score so far, at evenly spaced places, from the first that met the target upwards."""
    best, highest = [], 0.0
    for score in scores:
        highest = max(highest, score)
        best.append(highest)
    count = min(CURVE, len(best))
    at = [best[round(place * (len(best) - 1) / max(1, count - 1))] for place in range(count)]
    low = min((value for value in at if value > 0), default=0.0)
    return [value - 0.95 * low if value > 0 else 0.0 for value in at]


@command.command("export")
@click.argument("runs", nargs=-1, metavar="[ID ...]")
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE.jsonl", help="The file to write.")
@force_option
@verbose_option
def export_command(runs: tuple[str, ...], output: Path, force: bool) -> None:
    """Write searches to a file, all of them or those named."""
    from ..files import check_output, write_whole
    from ..history.transfer import export_lines

    output = check_output(output, force)
    with _open() as history:
        records = _named(history, runs) if runs else history.records()
        content = export_lines(history, records)
    write_whole(output, content, overwrite=force)
    say(f"{len(records)} searches written to {output}")


@command.command("import")
@click.argument("source", type=FILE, metavar="FILE.jsonl")
@verbose_option
def import_command(source: Path) -> None:
    """Take in searches that were exported elsewhere."""
    from ..history.transfer import import_file

    with _open() as history:
        found, new = import_file(history, source)
    say(f"{new} new searches of {found} in {source}")


@command.command("prune")
@click.argument("runs", nargs=-1, metavar="[ID ...]")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Those that began longer ago.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@verbose_option
def prune_command(runs: tuple[str, ...], older_than: float | None, everything: bool) -> None:
    """Forget searches: those named, old ones, or all."""
    if bool(runs) + (older_than is not None) + everything != 1:
        raise InputError("say what to forget, in one way: some IDs, --older-than DAYS, or --all")
    with _open() as history:
        records = _named(history, runs) if runs else history.records()
        if older_than is not None:
            before = time.time() - older_than * DAY
            records = [record for record in records if record.created < before]
        removed = history.remove([record.uid for record in records])
    say(f"{removed} searches forgotten")


def _named(history: History, prefixes: Sequence[str]) -> list[RunRecord]:
    return [history.find(prefix) for prefix in prefixes]
