"""Several nets of one search, from the slowest to the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import TargetError
from .handout import HandedOut, hand_out
from .job import Job
from .net import Net
from .report import FrontFacts, ReportData
from .rundir import RunDirectory
from .searching import Found
from .sitting import Sitting
from .subject import Subject

__all__ = ["front_facts", "hand_out_front", "places", "places_of"]

MOST_DIGITS = 17
"""With so many, no two numbers are written alike."""


def hand_out_front(
    job: Job, subject: Subject, found: Found, net: Net, targets: Sequence[float], run: RunDirectory, sitting: Sitting
) -> list[HandedOut]:
    """The best net for each target, slowest first. Of a front, those that come to nothing are left out and named.

    Raises:
        TargetError: nothing meets the last target, or scores enough there.
    """
    if job.target is None:
        return [_least(job, subject, found, net, targets, run, sitting)]
    nets: list[HandedOut] = []
    for number, target in enumerate(targets, start=1):
        last = number == len(targets)
        sitting.stages.prefix = "" if len(targets) == 1 else f"net {number} of {len(targets)}: "
        try:
            nets.append(hand_out(job, subject, found.evaluator, net, found.finalists(target), target, run, sitting))
        except TargetError as error:
            if last:
                raise
            sitting.note(f"the front has no net at {target:.3g}x: {error}")
    sitting.stages.prefix = ""
    return nets


def _least(
    job: Job, subject: Subject, found: Found, net: Net, targets: Sequence[float], run: RunDirectory, sitting: Sitting
) -> HandedOut:
    """The net at the least of the targets at which the job's lowest score is kept, by bisection.

    Raises:
        TargetError: it is kept at none of them.
    """
    best: HandedOut | None = None
    kept, lost = -1, len(targets)
    while lost - kept > 1:
        middle = (kept + lost) // 2
        target = targets[middle]
        sitting.stages.prefix = f"{target:.3g}x: "
        try:
            best = hand_out(job, subject, found.evaluator, net, found.finalists(target), target, run, sitting)
            kept = middle
        except TargetError as error:
            sitting.note(f"no net at {target:.3g}x: {error}")
            lost = middle
    sitting.stages.prefix = ""
    if best is None:
        raise TargetError(
            f"--min-score {job.min_score:g} is not kept even at {targets[0]:.3g}x; nothing was written, the search is "
            "kept in the run directory"
        )
    return best


def places(output: Path, targets: Sequence[float]) -> list[Path]:
    """Where the nets go: the last to `output`, the others beside it, named after their targets.

    Two digits, and more where two targets would have the same name.
    """
    names: list[str] = []
    for digits in range(2, MOST_DIGITS + 1):
        names = [f"{target:.{digits}f}x" for target in targets[:-1]]
        if len(set(names)) == len(names):
            break
    return [*(output.with_name(f"{output.stem}_{name}{output.suffix}") for name in names), output]


def places_of(nets: Sequence[HandedOut], output: Path, targets: Sequence[float]) -> list[Path]:
    """Where these nets go, of those that were to be made for `targets`; the last of them to `output`."""
    named = dict(zip(targets, places(output, targets), strict=True))
    return [*(named[net.target] for net in nets[:-1]), output]


def front_facts(reports: Sequence[ReportData]) -> tuple[FrontFacts, ...]:
    """The front as a report shows it; empty where there is one net."""
    if len(reports) < 2:
        return ()
    return tuple(
        FrontFacts(
            report.target.ratio,
            report.latency.ratio,
            report.latency.low,
            report.latency.high,
            report.score.slim,
            report.slim.parameters,
            report.slim.macs,
            report.slim.path,
        )
        for report in reports
    )
