"""The training loop: the original teaches the slim net."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ...errors import DataError
from ...graph import ensure_loaded, to_torch, write_back
from ...graph.torch_module import OnnxModule
from ..data import Dataset
from ..score import Score, Scorer
from .checkpoint import Checkpoint
from .lessons import Lesson, Lessons
from .loader import Loader
from .schedule import Clock, rate_at
from .settings import Settings
from .teacher import teacher_of

__all__ = ["Distilled", "Progress", "distill"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Told at every evaluation, and between them about once a second."""

    done: float
    """Share of the schedule, 0..1."""
    step: int
    loss: float
    score: float | None
    """Of the averaged weights on held-out images, where they were just scored."""
    best: float


@dataclass(frozen=True)
class Distilled:
    """What came of it."""

    model: onnx.ModelProto = field(repr=False)
    """The best averaged weights by the held-out images; the student as it was where nothing was better."""
    before: Score
    after: Score
    epochs: float
    steps: int
    seconds: float
    images_per_second: float
    history: tuple[tuple[int, float], ...]
    """Steps and score of every evaluation."""
    stopped_early: bool

    @property
    def improved(self) -> bool:
        """Whether the score rose."""
        return self.after.for_search > self.before.for_search


def distill(
    teacher: onnx.ModelProto,
    student: onnx.ModelProto,
    images: Dataset,
    scorer: Scorer,
    settings: Settings,
    *,
    seed: int = 0,
    label_offset: int = 0,
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    device: str | None = None,
) -> Distilled:
    """Train the student to say what the teacher says. Nothing but its weights changes.

    Knowledge distillation (Hinton et al. 2015) with the squared error of the logits (Ba and Caruana, "Do Deep Nets
    Really Need to be Deep?", NeurIPS 2014) and of tensors inside (Romero et al., "FitNets", ICLR 2015). Weights are
    averaged over steps (Polyak), the average is scored on held-out images, and the best one is taken.
    BatchNormalization keeps its statistics.

    Args:
        teacher: the original, as `load` returned it.
        student: a slim net of the same inputs and outputs; weights stored as integers are trained as such.
        images: to learn from; must share none with the scorer's.
        scorer: of the held-out images.
        seed: of the order and the changes of the images; on a CPU with the same number of threads, and a length in
            epochs, the same seed gives the same weights.
        label_offset: added to labels.
        checkpoint: written at every evaluation; where it is there, training goes on from it, to the same end.
        progress: told how it goes.
        device: torch's name of the device; CUDA by default where there is one.

    Raises:
        InputError: settings out of range, or a teacher that does not fit.
        ModelError: an operator that torch lacks.
        DataError: images that do not fit.
        RunError: a checkpoint that cannot be used.
    """
    settings.check()
    teacher, student = ensure_loaded(teacher), ensure_loaded(student)
    before = scorer.score(student)
    run = _Run(teacher, student, images, scorer, settings, seed, label_offset, checkpoint, device)
    stopped = run.train(before, progress)
    best = write_back(student, run.with_weights(run.best)) if run.best else student
    after = scorer.score(best) if run.best else before
    if after.for_search <= before.for_search:
        best, after = student, before
    seconds = run.clock.seconds
    log.info("distilled %d steps in %.0f s: %.4f -> %.4f", run.step, seconds, before.value, after.value)
    return Distilled(
        best,
        before,
        after,
        run.step / run.loader.steps_per_epoch,
        run.step,
        seconds,
        run.images_per_second,
        tuple(run.history),
        stopped,
    )


class _Run:
    """The state of one distillation."""

    def __init__(
        self,
        teacher: onnx.ModelProto,
        student: onnx.ModelProto,
        images: Dataset,
        scorer: Scorer,
        settings: Settings,
        seed: int,
        label_offset: int,
        checkpoint: Path | None,
        device: str | None,
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        lessons = Lessons.between(teacher, student, settings.features > 0)
        self.teacher = teacher_of(lessons.of_teacher(teacher), self.device, images.fixed_batch is None)
        # Convolutions of a CPU and of tensor cores want the channels last.
        self.student = to_torch(lessons.of_student(student)).to(self.device, memory_format=torch.channels_last)
        self.whole = to_torch(student)
        self.original, self.scorer, self.settings = student, scorer, settings
        self.lesson = Lesson(lessons.outputs, settings, label_offset)
        self.loader = Loader(images, _batch(self.student, images, settings), augment=settings.augment, seed=seed)
        self.parameters = [p for p in self.student.parameters() if p.requires_grad]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.optimizer = torch.optim.SGD(
            self.parameters, settings.rate, settings.momentum, weight_decay=settings.decay, nesterov=True
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.device.type == "cuda")
        self.precision = nullcontext if self.student.quantized else _precision(self.device)
        self.checkpoint = checkpoint
        self.identity = {**settings.to_dict(), "seed": seed, "images": len(images)}
        self.step, self.evaluations, self.since_best = 0, 0, 0
        self.best: dict[str, Tensor] = {}
        self.best_score = -np.inf
        self.history: list[tuple[int, float]] = []
        self.clock = Clock(settings, self.loader.steps_per_epoch)
        self.images_per_second = 0.0
        if checkpoint is not None and checkpoint.exists():
            self._go_on(Checkpoint.load(checkpoint, self.identity, self.device))

    # -- the loop ----------------------------------------------------------------------------------------------------

    def train(self, before: Score, progress: Callable[[Progress], None] | None) -> bool:
        """Until the schedule ends, or nothing has become better for long; whether the latter."""
        settings, scoring_s, first = self.settings, 0.0, self.step
        self.best_score = max(self.best_score, before.for_search)
        started = said_at = time.monotonic()
        losses: list[float] = []
        for images in self.loader.after(self.step):
            done = self.clock.done(self.step, scoring_s)
            if done >= 1:
                break
            losses.append(self._learn(images.inputs, images.labels, rate_at(self.clock.lead(self.step), settings)))
            self.step += 1
            done = self.clock.done(self.step, scoring_s)
            score = None
            if done >= 1 or done * settings.evaluations >= self.evaluations + 1:
                scoring = time.monotonic()
                score = self._evaluate()
                scoring_s = time.monotonic() - scoring
                started += scoring_s  # so that the rate is that of learning
                self.evaluations = max(self.evaluations + 1, int(done * settings.evaluations))
                if self.checkpoint is not None:
                    self._keep()
            now = time.monotonic()
            self.images_per_second = (self.step - first) * self.loader.batch / max(now - started, 1e-9)
            if progress is not None and (score is not None or now - said_at > 1):
                progress(Progress(min(done, 1.0), self.step, float(np.mean(losses[-50:])), score, self.best_score))
                said_at = now
            if score is not None and self.since_best >= settings.patience:
                return done < 1
        return False

    def _learn(self, inputs: dict[str, Tensor], labels: Tensor | None, rate: float) -> float:
        """One step; the loss before it."""
        there = {name: values.to(self.device, non_blocking=True) for name, values in inputs.items()}
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self.precision():
            shown = self.teacher(there)
            said = self.student({name: _channels_last(values) for name, values in there.items()})
        said = said if isinstance(said, tuple) else (said,)
        loss = self.lesson.loss(shown, said, None if labels is None else labels.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        memory = 1.0 / max(1.0, self.settings.average * (self.step + 1))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, memory)
        return float(loss.detach())

    # -- what is kept ------------------------------------------------------------------------------------------------

    def _averaged(self) -> dict[str, Tensor]:
        names = [name for name, p in self.student.named_parameters() if p.requires_grad]
        return dict(zip(names, (value.clone() for value in self.average), strict=True))

    def with_weights(self, weights: dict[str, Tensor]) -> OnnxModule:
        """The whole student, for `write_back`."""
        self.whole.load_state_dict(weights, strict=False)
        return self.whole

    def _evaluate(self) -> float:
        averaged = self._averaged()
        score = self.scorer.score(write_back(self.original, self.with_weights(averaged))).for_search
        self.history.append((self.step, score))
        if score > self.best_score:
            self.best, self.best_score, self.since_best = averaged, score, 0
        else:
            self.since_best += 1
        return score

    def _keep(self) -> None:
        assert self.checkpoint is not None
        Checkpoint(
            self.identity,
            self.step,
            self.clock.seconds,
            dict(self.student.state_dict()),
            self._averaged(),
            self.optimizer.state_dict(),
            self.lesson.spreads,
            self.best,
            float(self.best_score),
            self.since_best,
            self.evaluations,
            self.history,
        ).save(self.checkpoint)

    def _go_on(self, kept: Checkpoint) -> None:
        self.student.load_state_dict(kept.student)
        self.average = list(kept.average.values())
        self.optimizer.load_state_dict(kept.optimizer)
        self.lesson.spreads = kept.spreads
        self.step, self.evaluations, self.since_best = kept.step, kept.evaluations, kept.since_best
        self.best, self.best_score, self.history = kept.best, kept.best_score, [tuple(item) for item in kept.history]
        self.clock = Clock(self.settings, self.loader.steps_per_epoch, kept.seconds)


def _batch(module: OnnxModule, images: Dataset, settings: Settings) -> int:
    """Images a step: as many as wanted, where the graph takes any number.

    Raises:
        DataError: fewer images than the graph's own batch.
    """
    fixed = images.fixed_batch
    if fixed is None or module.batch == "any":
        return settings.batch
    if len(images) < fixed:
        raise DataError(f"the model takes batches of {fixed} images, and there are {len(images)}")
    return fixed


def _precision(device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """Mixed precision where the hardware has it: half as fast again on a CPU with bfloat16, more on a GPU.

    Weights stay float32. Graphs with quantized weights are trained in float32: their steps are what matters.
    """
    if device.type == "cuda":
        return partial(torch.autocast, "cuda", dtype=torch.float16)
    if torch.cpu.get_capabilities().get("avx512_bf16"):
        return partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    return nullcontext


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
