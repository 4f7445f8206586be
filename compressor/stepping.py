"""A step on the way to the target: search, recover, go on from there."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any

from .. import graph
from .files import write_whole
from .finalists import recover
from .job import PATHS, Job
from .net import Net
from .rundir import RunDirectory
from .search.meter import REPLAY
from .search.trials import Trials
from .searching import conversion_of, meter_of, search_net
from .sitting import Sitting
from .subject import Subject
from .tuning import tune

__all__ = ["has_steps", "step_toward"]

STEP_REMOVAL = "step removal"
"""Key of the trials' record for what a step removed."""


def has_steps(run: RunDirectory) -> bool:
    """Whether a step has begun: there is something to go on from."""
    return (run.path / _folder(1)).is_dir()


def _folder(step: int) -> str:
    return f"step{step}"


def step_toward(
    job: Job, subject: Subject, net: Net, step: int, run: RunDirectory, sitting: Sitting, settings: dict[str, Any]
) -> Net:
    """The net after a step on the way to the target, searched, recovered and kept in a run directory of its own.

    Steps take the same share of what is left of the latency each, beginning with the original in the job's precision.

    Raises:
        KeyboardInterrupt: the search was interrupted; there is no net at the target to go on with.
        TargetError: no candidate meets this step's share of the target.
    """
    sitting.stages.prefix = f"step {step} of {job.steps}: "
    devices = [f"{name}/{_folder(step)}" if name.startswith(REPLAY) else name for name in job.devices]
    with ExitStack() as stack:
        folder = run.path / _folder(step)
        resume = run.resumed and folder.is_dir()
        own = stack.enter_context(
            RunDirectory.start(folder, {**settings, "step": step}, resume=resume, force=True, may_change=PATHS)
        )
        there = own.resumed and own.trials.exists()
        trials = stack.enter_context(Trials.open(own.trials) if there else Trials.create(own.trials))
        meter = stack.enter_context(closing(meter_of(job, subject, devices, trials)))
        start = conversion_of(job, subject, meter, trials).ratio
        target = start * (job.targets(meter.baseline())[-1] / start) ** (step / job.steps)
        removal = trials.recall(STEP_REMOVAL)
        if removal is not None and own.slim.exists():
            model = graph.load(own.slim)
        else:
            found = search_net(job, subject, net, meter, trials, (target,), sitting)
            if found.searched.interrupted:
                raise KeyboardInterrupt
            winner = next(found.finalists(target))
            calibrating = subject.images.calibration.feeds()
            model = recover(found.evaluator, subject.judge, net, winner, calibrating, sitting.stages.end, job.seed)
            if job.finetune is not None:
                model = tune(job, subject, model, own, sitting)
            removal = found.evaluator.maker.ranking.removal(winner.trial.plan)
            write_whole(own.slim, model.SerializeToString())
            trials.record(STEP_REMOVAL, removal)
    sitting.stages.prefix = "" if step + 1 < job.steps else f"step {job.steps} of {job.steps}: "
    analysis = graph.analyze(model)
    gone = net.in_original({name: tuple(units) for name, units in removal.items()}) if net.composable else {}
    return Net(model, analysis, subject.loaded, subject.analysis, gone)
