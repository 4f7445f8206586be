"""The pictures of a report: trials, best score over episodes, latency distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .content import ReportData, StaircaseFacts, TrialFacts
from .histogram import bin_counts, quantile
from .svg import SMALL, Axis, Chart

__all__ = ["front", "latency_chart", "measured", "percent", "progress_chart", "staircase_chart", "trials_chart"]

_BINS = 48


def trials_chart(data: ReportData) -> str:
    """Every trial as its mark against latency ratio, with the front of trials that no other beats in both."""
    trials, final = measured(data.trials), (data.latency.ratio, data.score.slim)
    ratios = [trial.ratio for trial in trials]
    scores = [trial.score for trial in trials]
    title = f"Marks against latency of {len(trials)} trial{'s' if len(trials) != 1 else ''}"
    description = (
        f"Target {data.target.ratio:.3g} of the original's latency. The final model scores "
        f"{percent(data.score.slim)} at {data.latency.ratio:.3f}."
    )
    chart = Chart(
        "trials",
        title,
        description,
        Axis.around("latency, as a share of the original's", [*ratios, data.target.ratio, final[0]], ratio_text),
        Axis.around(f"mark (final model: {data.score.kind})", [*scores, final[1]], percent_tick),
    )
    chart.vertical(data.target.ratio, "target", f"target {data.target.ratio:.3g}×")
    chart.line(_staircase([(trial.ratio, trial.score) for trial in front(trials)]), "front")
    for trial in trials:
        meets = trial.ratio <= data.target.ratio
        tooltip = f"trial {trial.episode}: {percent(trial.score)} at {trial.ratio:.3f}×"
        chart.point(trial.ratio, trial.score, "meets" if meets else "misses", 2.8, tooltip)
    for trial in trials:
        if trial.episode == data.search.best_episode:
            chart.point(trial.ratio, trial.score, "winner", 6, f"the search's choice: trial {trial.episode}")
    chart.diamond(*final, "final", tooltip=f"final model: {percent(final[1])} at {final[0]:.3f}×")
    for label, style in (
        ("meets the target", "meets"),
        ("misses it", "misses"),
        ("search's choice", "winner"),
        ("final model", "final"),
    ):
        chart.legend(label, style)
    return chart.markup()


def progress_chart(data: ReportData) -> str:
    """The best mark so far of trials that meet the target, over the trials."""
    trials = measured(data.trials)
    best: list[tuple[float, float]] = []
    for trial in trials:
        if trial.ratio <= data.target.ratio:
            best.append((trial.episode, max(trial.score, best[-1][1]) if best else trial.score))
    if best:
        best.append((trials[-1].episode, best[-1][1]))
    description = (
        f"The best of the trials that meet the target ends at {percent(best[-1][1])}."
        if best
        else "No trial met the target."
    )
    chart = Chart(
        "progress",
        "Best mark over the trials",
        description,
        Axis.around("trial", [trial.episode for trial in trials], "{:.0f}".format, margin=0.02),
        Axis.around("mark", [trial.score for trial in trials], percent_tick),
    )
    for trial in trials:
        style = "meets faint" if trial.ratio <= data.target.ratio else "misses faint"
        chart.point(trial.episode, trial.score, style, 2.4)
    chart.line(_staircase(best), "best")
    chart.legend("best that meets the target", "best")
    chart.legend("meets the target", "meets faint")
    chart.legend("misses it", "misses faint")
    return chart.markup()


def latency_chart(data: ReportData) -> str:
    """Histograms of the samples of both models over one axis; the slowest hundredth is cut off.

    Both models need samples.
    """
    before, after = data.latency.baseline_samples_ms, data.latency.slim_samples_ms
    low = min([*before, *after])
    high = max(quantile(before, 0.99), quantile(after, 0.99))
    chart = Chart(
        "latency",
        "Latency of single calls",
        f"Median {data.latency.baseline_ms:.3g} ms before and {data.latency.slim_ms:.3g} ms after.",
        Axis.around("milliseconds", [low, high], number_text),
        Axis("share of calls", 0, 1.12, "".format),
        y_ticks=False,
    )
    for samples, style in ((before, "before"), (after, "after")):
        chart.line(_outline(samples, chart.x.low, chart.x.high), f"area {style}", closed=True)
    chart.vertical(data.latency.baseline_ms, "before", f"{data.latency.baseline_ms:.3g} ms")
    chart.vertical(data.latency.slim_ms, "after", f"{data.latency.slim_ms:.3g} ms", row=1)
    chart.legend("original", "before")
    chart.legend("slim", "after")
    return chart.markup()


def staircase_chart(stairs: StaircaseFacts, kept: int, key: str) -> str:
    """Milliseconds of one group against the units that it keeps, small: steps marked, and what was kept."""
    costs = dict(zip(stairs.widths, stairs.milliseconds, strict=True))
    steps = ", ".join(map(str, stairs.steps))
    chart = Chart(
        key,
        f"Latency of {stairs.group} by units kept",
        f"Steps at {steps}; {kept} of {stairs.widths[-1]} units are kept.",
        Axis("", 0, max(stairs.widths[-1], 1), number_text),
        Axis("", 0, 1.08 * max(stairs.milliseconds) or 1.0, number_text),
        frame=SMALL,
    )
    chart.vertical(kept, "target")
    chart.line(list(costs.items()), "front")
    for width, cost in costs.items():
        step = width in stairs.steps
        tooltip = f"{width} units: {cost:.4g} ms"
        chart.point(width, cost, "meets" if step else "misses", 3.2 if step else 2, tooltip)
    return chart.markup()


def front(trials: Sequence[TrialFacts]) -> list[TrialFacts]:
    """The trials that no other beats in both latency and score, quickest first."""
    edge: list[TrialFacts] = []
    for trial in sorted(trials, key=lambda trial: (trial.ratio, -trial.score)):
        if not edge or trial.score > edge[-1].score:
            edge.append(trial)
    return edge


def measured(trials: Sequence[TrialFacts]) -> list[TrialFacts]:
    """The trials that have both numbers, in their order."""
    finite = (trial for trial in trials if math.isfinite(trial.ratio) and math.isfinite(trial.score))
    return sorted(finite, key=lambda trial: trial.episode)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def percent_tick(share: float) -> str:
    return f"{100 * share:.4g} %"


def ratio_text(ratio: float) -> str:
    return f"{ratio:.4g}×"


def number_text(number: float) -> str:
    return f"{number:.4g}"


def _staircase(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A level line from each point until the next one begins."""
    corners: list[tuple[float, float]] = []
    for x, y in points:
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    return corners


def _outline(samples: Sequence[float], low: float, high: float) -> list[tuple[float, float]]:
    """The outline of a histogram over [low, high] whose tallest bin is 1."""
    width = (high - low) / _BINS
    counts = bin_counts(samples, low, high, _BINS)
    filled = [i for i, count in enumerate(counts) if count]
    if not filled:
        return []
    first, last, tallest = filled[0], filled[-1], max(counts)
    corners = [(low + first * width, 0.0)]
    for i in range(first, last + 1):
        corners += [(low + i * width, counts[i] / tallest), (low + (i + 1) * width, counts[i] / tallest)]
    return [*corners, (low + (last + 1) * width, 0.0)]
