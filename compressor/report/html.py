"""`report.html`: the facts of a run on one page that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .charts import latency_chart, measured, percent, progress_chart, staircase_chart, trials_chart
from .content import GroupFacts, ReportData
from .svg import bar

__all__ = ["to_html"]

_TEMPLATE = "report.html.jinja"
_MANY_GROUPS = 16
"""From here on the table of groups has two columns where the page is wide."""


@dataclass(frozen=True)
class Tile:
    """One figure of the headline."""

    label: str
    before: str
    after: str
    change: str
    detail: str = ""


def to_html(data: ReportData) -> str:
    """The page. Everything that comes from the user's files is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, points=points, short=short, bar=lambda share: Markup(bar(share)), duration=duration
    )
    trials = measured(data.trials)
    return environment.get_template(_TEMPLATE).render(
        data=data,
        name=Path(data.model.path).name or data.model.path,
        tiles=_tiles(data),
        trials_chart=Markup(trials_chart(data)) if trials else "",
        progress_chart=Markup(progress_chart(data)) if len(trials) > 1 else "",
        latency_chart=Markup(latency_chart(data)) if _has_samples(data) else "",
        columns=_columns(data.groups),
        staircases=_staircases(data),
        failed=len(data.trials) - len(trials),
    )


def _tiles(data: ReportData) -> list[Tile]:
    latency, score, model, slim = data.latency, data.score, data.model, data.slim
    return [
        Tile(
            "Latency",
            f"{latency.baseline_ms:.3g} ms",
            f"{latency.slim_ms:.3g} ms",
            f"{latency.ratio:.3f}×",
            f"{100 * latency.confidence:.0f} % interval {latency.low:.3f}–{latency.high:.3f}×",
        ),
        Tile(
            score.kind.capitalize(),
            percent(score.baseline),
            percent(score.slim),
            points(score.slim - score.baseline),
            f"{score.detail}, {score.images:,} images" + (", new to the search" if score.fresh else ""),
        ),
        Tile("Parameters", short(model.parameters), short(slim.parameters), change(model.parameters, slim.parameters)),
        Tile("MACs", short(model.macs), short(slim.macs), change(model.macs, slim.macs), "of one sample"),
        Tile("File", short(model.bytes, "B"), short(slim.bytes, "B"), change(model.bytes, slim.bytes)),
    ]


def _columns(groups: Sequence[GroupFacts]) -> list[Sequence[GroupFacts]]:
    """The groups in graph order, in one table or two."""
    if len(groups) <= _MANY_GROUPS:
        return [groups] if groups else []
    half = -(-len(groups) // 2)
    return [groups[:half], groups[half:]]


def _staircases(data: ReportData) -> list[tuple[str, Markup]]:
    """Name and picture of each group whose widths were measured."""
    kept = {group.name: group.kept for group in data.groups}
    return [
        (stairs.group, Markup(staircase_chart(stairs, kept.get(stairs.group, stairs.widths[-1]), f"stairs-{number}")))
        for number, stairs in enumerate(data.staircases)
    ]


def _has_samples(data: ReportData) -> bool:
    return bool(data.latency.baseline_samples_ms and data.latency.slim_samples_ms)


def short(number: float, unit: str = "") -> str:
    """Three digits and a prefix: 853018 is `853 k`."""
    for power, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * power:
            return f"{_three_digits(number / power)} {prefix}{unit}"
    return f"{_three_digits(number)} {unit}".rstrip()


def change(before: float, after: float) -> str:
    """Relative change in per cent, with a sign."""
    if before == 0:
        return ""
    return f"{100 * (after / before - 1):+.1f} %".replace("-", "−")


def points(difference: float) -> str:
    """A difference of scores in percentage points, with a sign."""
    return f"{100 * difference:+.2f} points".replace("-", "−")


def duration(seconds: float) -> str:
    """`48 s`, `12 min 5 s`, `1 h 20 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _three_digits(number: float) -> str:
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{decimals}f}" if number != int(number) or number >= 1000 else f"{int(number)}"
