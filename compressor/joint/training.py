"""Joint training on one page: a net by name and labelled images go in, a slim ONNX file and a report come out."""

from __future__ import annotations

import json
import logging
import os
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from rich.console import Console

from ... import graph
from ...errors import DataError, InputError, OrtrimError, TargetError
from ...models.build import build
from ...runtime import Device, usable_cores
from ..cache import layer_cache
from ..data import Dataset, InputSpec, Preprocessing, data_identity, load_data
from ..data.split import spread_order
from ..files import check_output, write_whole
from ..mixed import MixedPrecision
from ..parallel import World
from ..rundir import RunDirectory
from ..score import Scorer
from ..search.meter import REPLAY, Meter, open_meter
from ..search.trials import Trials
from ..sitting import Stages
from ..target import Target
from . import checkpoint, facts
from .facts import Finished
from .judge import Judge
from .logs import TensorBoard
from .masks import Masks
from .offer import Offer
from .policy import Policy
from .progress import TrainingProgress
from .schedule import Schedule
from .settings import Settings
from .traced import Traced, trace_for_training
from .trainer import Epoch, Search, Trainer, follow
from .weights import Weights

__all__ = ["Trained", "train"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What came of it."""

    model: onnx.ModelProto = field(repr=False)
    output: Path
    run_dir: Path
    accuracy: float
    """Of the model, on held-out images."""
    plan: dict[str, int]
    """Group -> units kept, of the groups that could change; empty where nothing was pruned."""
    history: tuple[Epoch, ...] = field(repr=False)
    report: dict[str, Any] = field(repr=False)
    """What `report.json` holds."""


def train(
    spec: str,
    *,
    data: str | os.PathLike[str],
    settings: Settings | None = None,
    target: Target | str | None = None,
    device: str = "cpu:threads=1",
    output: str | os.PathLike[str],
    run_dir: str | os.PathLike[str] | None = None,
    preprocessing: Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    tensorboard: str | os.PathLike[str] | None = None,
    torch_device: str | None = None,
    resume: bool = False,
    force: bool = False,
    show: bool = False,
) -> Trained | None:
    """Train a net from scratch while an agent learns which of its channels to keep.

    Args:
        spec: `torchvision:NAME`, `ortrim:NAME` or `package.module:factory`; a classifier.
        data: labelled images, see `load_data`; a part is held out for rewards.
        target: latency to reach, `0.6x` of the whole net or `4.5ms`; not needed with `settings.prune` off.
        device: where latency is measured.
        run_dir: where the run is kept; `OUTPUT.run` by default.
        seed: of everything random. On a CPU, with the same number of threads, the same seed and the same latencies give
            the same net, bit for bit, in one go or resumed.
        tensorboard: a folder for TensorBoard's logs.
        torch_device: where the weights train; a GPU by default where there is one. Of several processes that torchrun
            started each takes its own.
        resume: go on with the run in `run_dir`, at the last epoch that was done.
        force: an output and a run that are there may be replaced.
        show: progress on standard error.

    Returns:
        What came of it; None in the processes of torchrun that only help.

    Raises:
        InputError: bad input or usage, named in one line.
        JobError: nothing to prune, target not met, verification failed, device lost. A net that turns out to miss the
            target when it has been trained stays in the run directory, with its report.
    """
    settings = settings or Settings()
    settings.check()
    target = Target.parse(target) if isinstance(target, str) else target
    _check(settings, target, device)
    output_path = check_output(output, force, inputs=[data])
    traced = trace_for_training(build(spec, size=size, seed=seed))
    training, held_out = _images(traced, Path(data), preprocessing, settings, seed)
    identity = {
        "model": spec,
        "data": os.fspath(data),
        "data_identity": data_identity(data),
        "images": len(training) + len(held_out),
        "target": None if target is None else str(target),
        "device": device if settings.prune else None,
        "seed": seed,
        "preprocessing": str(preprocessing or Preprocessing()),
        "size": None if size is None else list(size),
        **settings.to_dict(),
    }
    run_path = Path(run_dir) if run_dir is not None else Path(f"{os.fspath(output)}.run")
    with ExitStack() as stack:
        world = stack.enter_context(World.of_torchrun(torch_device))
        world.batch(settings.batch)
        flat = all(value.ndim <= 4 for value in traced.module.parameters())
        traced.module.to(world.device, memory_format=torch.channels_last if flat else torch.preserve_format)
        if world.follows:
            weights = Weights(traced.module, training, settings, seed, world, MixedPrecision(world.device))
            follow(world, weights, Masks(traced.analysis, traced.module) if settings.prune else None)
            return None
        logs = None if tensorboard is None else stack.enter_context(TensorBoard(Path(tensorboard)))
        run = stack.enter_context(
            RunDirectory.start(run_path, identity, resume=resume, force=force, may_change=("data",))
        )
        there = run.resumed and run.trials.exists()
        trials = stack.enter_context(Trials.open(run.trials) if there else Trials.create(run.trials))
        try:
            meter = None
            if settings.prune:
                sample = {name: array[:1] for name, array in held_out.subset([0]).feeds().items()}
                meter = stack.enter_context(
                    closing(open_meter(device, traced.model, sample, trials, layer_cache(), seed))
                )
            console = Console(stderr=True) if show else Console(quiet=True)
            job = _Job(traced, training, held_out, settings, target, seed, world, run, trials, meter, console)
            return job.run(output_path, logs, identity, force=force)
        except OrtrimError:
            if not run.checkpoint.exists():
                trials.close()
                run.discard()
            raise


def _check(settings: Settings, target: Target | None, device: str) -> None:
    if settings.prune and target is None:
        raise InputError("give --latency, or --no-prune to train the net as it is")
    if settings.prune:
        if device.startswith(REPLAY):
            raise InputError(f"--device {device}: a training cannot be replayed")
        Device.parse(device)


def _images(
    traced: Traced, data: Path, preprocessing: Preprocessing | None, settings: Settings, seed: int
) -> tuple[Dataset, Dataset]:
    """Images to train on, and held-out ones."""
    dataset = load_data(data, InputSpec.from_model(traced.model), preprocessing)
    if dataset.labels is None:
        raise DataError(f"{data} has no labels: training from scratch needs them (`labels`, or folders of classes)")
    if dataset.labels.max() >= traced.classes:
        raise DataError(
            f"{data} has label {dataset.labels.max()}, and {traced.spec} knows the classes 0 to {traced.classes - 1}"
        )
    held = settings.reward if settings.reward is not None else len(dataset) // 10
    if held < 1 or len(dataset) - held < settings.batch:
        raise DataError(
            f"{data} holds {len(dataset)} images: {max(held, 1)} held out and a batch of {settings.batch} to train on "
            "are more; see --reward and --batch"
        )
    order = spread_order(len(dataset), dataset.labels, seed)
    return dataset.subset(np.sort(order[held:])), dataset.subset(np.sort(order[:held]))


@dataclass
class _Job:
    """One training, from the first epoch to the report."""

    traced: Traced
    training: Dataset
    held_out: Dataset
    settings: Settings
    target: Target | None
    seed: int
    world: World
    directory: RunDirectory
    trials: Trials
    meter: Meter | None
    console: Console

    def run(self, output: Path, logs: TensorBoard | None, identity: dict[str, Any], *, force: bool) -> Trained:
        stages = Stages()
        progress = TrainingProgress(self.settings.epochs, self.console)
        notes = list(self.traced.notes)
        for note in notes:
            progress.note(f"note: {note}")
        trainer = self._trainer(progress)
        stages.end("latency table" if self.meter is not None else "setting up")
        with progress:
            for row in trainer.epochs():
                if self.meter is not None:
                    self.meter.keep_table()
                checkpoint.save(self.directory.checkpoint, trainer.state())
                progress.epoch(row)
                if logs is not None:
                    logs.epoch(row)
                log.info("epoch %d (%s): accuracy %.4f, reward %s", row.epoch, row.phase, row.accuracy, row.reward)
        stages.end("training")
        finished = self._finish(trainer)
        stages.end("slim net", finished.score)
        write_whole(self.directory.slim, finished.model.SerializeToString())
        search, chosen = trainer.search, trainer.chosen
        if search is None or chosen is None:
            report = facts.write_plain(
                self.directory,
                output,
                self.traced,
                finished,
                history=trainer.history,
                settings=identity,
                notes=notes,
            )
        else:
            assert self.meter is not None
            assert self.target is not None
            assert finished.latency is not None
            notes.append(
                "the original's accuracy is that of the whole net when the plan was chosen, after epoch "
                f"{chosen.epoch}; for what it would have come to, train it with --no-prune"
            )
            missed = finished.latency.value > search.offer.target
            if missed:
                notes.append(
                    f"the target was met when the plan was chosen ({chosen.latency:.3f}x) and is not in the last "
                    "measurement"
                )
            report = facts.write_pruned(
                self.directory,
                output,
                self.traced,
                search.offer,
                chosen,
                finished,
                target=self.target,
                device=self.meter.facts,
                agent=self.settings.agent,
                agent_seconds=trainer.agent_seconds,
                trials=[(trial.id, trial.plan, trial.score, trial.ratio) for trial in self.trials],
                history=trainer.history,
                stages=stages.facts,
                settings=identity,
                notes=notes,
            )
            if missed:
                raise TargetError(
                    f"--latency {self.target}: the trained net was measured at {finished.latency.value:.4f}x in the "
                    f"end, above {search.offer.target:.4f}x; it is kept as {self.directory.slim}, and --resume "
                    "measures it again"
                )
        write_whole(output, finished.model.SerializeToString(), overwrite=force)
        return Trained(
            finished.model,
            output,
            self.directory.path,
            finished.score.value,
            {} if chosen is None else chosen.plan,
            tuple(trainer.history),
            report,
        )

    def _trainer(self, progress: TrainingProgress) -> Trainer:
        """Everything that trains, as it was after the last epoch that was done."""
        traced, settings = self.traced, self.settings
        precision = MixedPrecision(self.world.device)
        weights = Weights(traced.module, self.training, settings, self.seed, self.world, precision)
        search = self._search()
        judge = Judge(
            traced.module,
            None if search is None else search.masks,
            traced.normalizations,
            self.training,
            self.held_out,
            batch=settings.batch,
            batches=settings.bn_batches,
            seed=self.seed,
            device=self.world.device,
            precision=precision,
        )
        trainer = Trainer(traced.module, weights, judge, settings, search, self.world, progress.step)
        if self.directory.resumed and self.directory.checkpoint.exists():
            trainer.restore(checkpoint.load(self.directory.checkpoint, self.world.device))
        return trainer

    def _search(self) -> Search | None:
        if self.meter is None:
            return None
        assert self.target is not None
        masks = Masks(self.traced.analysis, self.traced.module)
        offer = Offer(self.traced, masks, self.meter, self.target, self.trials, self.seed)
        schedule = Schedule.of(self.settings)
        policy = Policy(offer.space, offer.correction, self.settings, schedule, self.seed)
        return Search(masks, offer, policy, self.trials)

    def _finish(self, trainer: Trainer) -> Finished:
        """The trained net without the channels that are off, proved against the net that has them off."""
        traced, settings, chosen = self.traced, self.settings, trainer.chosen
        if chosen is not None and trainer.search is not None:
            trainer.search.masks.switch_off(chosen.removal)
            if not settings.hard:
                trainer.judge.reestimate()
        whole = graph.write_back(traced.model, traced.module)
        small, extra = whole, {}
        if chosen is not None:
            small = graph.slim(whole, chosen.removal, analysis=traced.analysis)
            graph.verify(whole, small, chosen.removal, analysis=traced.analysis)
            extra = {"ortrim.plan": json.dumps(chosen.plan), "ortrim.target": str(self.target)}
        scorer = Scorer.build(whole, self.held_out, Device("cpu", threads=usable_cores()))
        score = scorer.score(small)
        model = graph.finish(small, facts.header(traced.spec, score, self.seed, settings.epochs, extra))
        latency = None
        if chosen is not None and self.meter is not None:
            limit = None if trainer.search is None else trainer.search.offer.target
            latency = self.meter.final(chosen.plan, model, recovered=True, limit=limit)
        return Finished(
            model,
            scorer.baseline,
            score,
            len(self.held_out),
            len(self.training),
            latency,
            sum(row.seconds for row in trainer.history),
        )
