"""The same function in cheaper operators, where that is measured to be faster: speed that costs no accuracy."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import Any

import onnx

from .. import graph
from .job import Job
from .precision import converter_for
from .search.candidates import prunable_groups
from .search.meter import EQUIVALENT, Meter
from .search.scoring import FAULTS
from .search.trials import Trials
from .searching import meter_of
from .sitting import Sitting
from .subject import Subject

__all__ = ["in_cheaper_operators"]

log = logging.getLogger(__name__)

WORTH = 0.02
"""Share of the latency that must be won: a quick measurement is about as uncertain."""
NOT_TAKEN: dict[str, Any] = {"taken": False}


def in_cheaper_operators(job: Job, subject: Subject, trials: Trials, sitting: Sitting, *, begun: bool) -> Subject:
    """The subject with its net in cheaper operators (`graph.reduce_strength`), or as it is.

    Taken only where it computes the same, and where the device runs it faster in the job's precision. That is found
    out once and kept in `trials`: a run that goes on, or is replayed, does as before.

    Args:
        begun: whether there are candidates already; without such a record they are of the net as it was given.

    Raises:
        JobError, InputError: the device does not run the original.
    """
    cheaper = graph.reduce_strength(subject.loaded)
    if cheaper is subject.loaded:
        return subject
    known = trials.recall(EQUIVALENT) or (NOT_TAKEN if begun else None)
    if known is None:
        with closing(meter_of(job, subject, job.devices, trials)) as meter:
            known = trials.recall(EQUIVALENT) or _compared(job, subject, cheaper, meter)  # recalled in a replay
        trials.record(EQUIVALENT, known)
    if not known["taken"]:
        return subject
    sitting.note(
        f"{_in_words(subject.loaded, cheaper)}, which computes the same and is faster here: "
        f"{known['ratio']:.2f}x for {known['as_given']:.2f}x before anything is removed"
    )
    analysis = graph.analyze(cheaper)
    groups = prunable_groups(analysis, job.keep)
    return replace(subject, loaded=cheaper, analysis=analysis, groups=groups)


def _compared(job: Job, subject: Subject, cheaper: onnx.ModelProto, meter: Meter) -> dict[str, Any]:
    """Both forms against the original; a form that the device cannot run is not taken."""
    feeds = subject.images.calibration.feeds()
    try:
        graph.verify(subject.loaded, cheaper, {}, inputs={name: array[:1] for name, array in feeds.items()})
        ratio, as_given = (
            meter.quick({}, converter_for(job.precision, net, feeds).quick(net)).ratio
            for net in (cheaper, subject.loaded)
        )
    except FAULTS as error:
        log.warning("not in cheaper operators: %s", " ".join(str(error).split()))
        meter.check()
        return NOT_TAKEN
    return {"taken": ratio < (1 - WORTH) * as_given, "ratio": ratio, "as_given": as_given}


def _in_words(before: onnx.ModelProto, after: onnx.ModelProto) -> str:
    """As `33 PRelu as 33 Mul, 33 Max`, or `without 8 Slice, 1 Concat`."""
    operators, now = (Counter(node.op_type for node in model.graph.node) for model in (before, after))
    gone, new = (
        ", ".join(f"{count} {name}" for name, count in changed.items())
        for changed in (operators - now, now - operators)
    )
    return f"{gone} as {new}" if new else f"without {gone}"
