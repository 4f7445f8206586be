"""The training loop: the original teaches the slim net."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from torch import Tensor

from ...graph import ensure_loaded, to_torch, write_back
from ...graph.torch_module import OnnxModule
from ..data import Dataset
from ..parallel import World
from ..score import Marked, Score, Scorer
from .checkpoint import Checkpoint
from .learner import Learner, follow
from .schedule import Ceiling, Clock, rate_at
from .settings import Settings

__all__ = ["Distilled", "Progress", "distill", "help_to_distill"]

log = logging.getLogger(__name__)

SHARES = (0.25, 0.5, 0.75)
"""Of the way from the weights before to those taught, that are marked beside both."""


@dataclass(frozen=True)
class Progress:
    """Told at every evaluation, and between them about once a second."""

    done: float
    """Share of the schedule, 0..1."""
    step: int
    loss: float
    score: float | None
    """The mark of the averaged weights, where they were just scored; see `Scorer.mark`."""
    best: float


@dataclass(frozen=True)
class Distilled:
    """What came of it."""

    model: onnx.ModelProto = field(repr=False)
    """The weights of the best mark; the student as it was where nothing was better."""
    before: Score
    """On the held-out images as they are."""
    after: Score
    marks: tuple[float, float]
    """Before and after: what decided; see `Scorer.mark`."""
    share: float
    """How far the weights lie from those before (0) to those taught (1)."""
    epochs: float
    steps: int
    seconds: float
    images_per_second: float
    history: tuple[tuple[int, float], ...]
    """Steps and mark of every evaluation."""
    stopped_early: bool
    notes: tuple[str, ...] = ()
    """What the user should know."""

    @property
    def improved(self) -> bool:
        """Whether the mark rose. The score need not."""
        return self.marks[1] > self.marks[0]


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
    world: World | None = None,
) -> Distilled:
    """Train the student to say what the teacher says. Nothing but its weights changes.

    Knowledge distillation (Hinton et al. 2015) with the squared error of the logits (Ba and Caruana, "Do Deep Nets
    Really Need to be Deep?", NeurIPS 2014) and of tensors inside (Romero et al., "FitNets", ICLR 2015). Weights are
    averaged over steps (Polyak), the average is marked by held-out images (`Scorer.mark`), and the best one is taken,
    or what lies between the last one and the weights before, where that is better (Wortsman et al., "Robust fine-tuning
    of zero-shot models", CVPR 2022, section 3). BatchNormalization keeps its statistics.

    Args:
        teacher: the original, as `load` returned it.
        student: a slim net of the same inputs and outputs; weights stored as integers are trained as such.
        images: to learn from; must share none with the scorer's.
        scorer: of the held-out images, made with `blends` where they have no labels (see `Scorer.mark`).
        seed: of the order and the changes of the images; on a CPU with the same number of threads, and a length in
            epochs, the same seed gives the same weights.
        label_offset: added to labels.
        checkpoint: written at every evaluation; where it is there, training goes on from it, to the same end.
        progress: told how it goes.
        world: the processes that share the work, of which this one leads; alone by default, on CUDA where it is. The
            others call `help_to_distill` with the same models, images and settings.

    Raises:
        InputError: settings out of range, or a teacher that does not fit.
        ModelError: an operator that torch lacks.
        DataError: images that do not fit.
        RunError: a checkpoint that cannot be used.
    """
    settings.check()
    world = world or World()
    teacher, student = ensure_loaded(teacher), ensure_loaded(student)
    learner = Learner(teacher, student, images, settings, seed=seed, label_offset=label_offset, world=world)
    before = scorer.mark(student)
    identity = {**settings.to_dict(), "seed": seed, "images": len(images), "processes": world.size}
    run = _Run(learner, student, scorer, settings, world, checkpoint, identity)
    stopped = run.train(before.mark, progress)
    best, after, share = run.taken(before)
    seconds = run.clock.seconds
    notes = []
    if learner.reduced:
        held = learner.images_a_step
        notes.append(
            f"a step of training held {held} images instead of {settings.batch}: more would not fit into its memory"
        )
    if after.mark > before.mark and after.score.value < before.score.value:
        notes.append(
            f"teaching lowered the {after.score.kind} on held-out images ({before.score.value:.4f} to "
            f"{after.score.value:.4f}), but with blends of them, which the original was not trained on, the net is "
            f"nearer to it ({before.mark:.4f} to {after.mark:.4f})"
        )
    marks = f"{before.mark:.4f} -> {after.mark:.4f}, {share:.0%} of the way"
    log.info("distilled %d steps in %.0f s: %s", run.step, seconds, marks)
    return Distilled(
        best,
        before.score,
        after.score,
        (before.mark, after.mark),
        share,
        run.step / learner.loader.steps_per_epoch,
        run.step,
        seconds,
        run.images_per_second,
        tuple(run.history),
        stopped,
        tuple(notes),
    )


def help_to_distill(
    teacher: onnx.ModelProto,
    student: onnx.ModelProto,
    images: Dataset,
    settings: Settings,
    *,
    seed: int = 0,
    label_offset: int = 0,
    world: World,
) -> None:
    """What the processes do that do not lead; arguments and errors as of `distill`."""
    settings.check()
    teacher, student = ensure_loaded(teacher), ensure_loaded(student)
    follow(Learner(teacher, student, images, settings, seed=seed, label_offset=label_offset, world=world), world)


class _Run:
    """The state of one distillation, in the process that leads."""

    def __init__(
        self,
        learner: Learner,
        student: onnx.ModelProto,
        scorer: Scorer,
        settings: Settings,
        world: World,
        checkpoint: Path | None,
        identity: dict[str, object],
    ) -> None:
        self.learner, self.world, self.settings = learner, world, settings
        self.original, self.scorer = student, scorer
        self.whole = to_torch(student)
        self.checkpoint, self.identity = checkpoint, identity
        self.step, self.evaluations = 0, 0
        self.ceiling = Ceiling()
        self.best: dict[str, Tensor] = {}
        self.best_score = -np.inf
        self.history: list[tuple[int, float]] = []
        self.clock = Clock(settings, learner.loader.steps_per_epoch)
        self.images_per_second = 0.0
        if checkpoint is not None and checkpoint.exists():
            self._go_on(Checkpoint.load(checkpoint, identity, world.device))

    # -- the loop ----------------------------------------------------------------------------------------------------

    def train(self, before: float, progress: Callable[[Progress], None] | None) -> bool:
        """Until the schedule ends, or nothing has become better for long; whether the latter."""
        settings, scoring_s, first = self.settings, 0.0, self.step
        self.best_score = max(self.best_score, before)
        started = said_at = time.monotonic()
        losses: list[float] = []
        self.world.share({"step": self.step, "state": self.learner.state()} if self.world.size > 1 else None)
        for images in self.learner.loader.after(self.step):
            done = self.clock.done(self.step, scoring_s)
            if done >= 1:
                break
            rate = rate_at(self.clock.lead(self.step), settings, self.clock.expected(self.step), self.ceiling.most)
            self.world.share((rate, self.ceiling.anew))
            if self.ceiling.anew:
                self.learner.begin_anew()
                most = self.ceiling.most
                log.info("step %d: the loss rose, the student begins anew with %.2g at most", self.step, most)
            losses.append(self.learner.learn(images, self.step, rate))
            self.step += 1
            if settings.rate is None:
                self.ceiling.told(losses[-1], rate, done)
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
            self.images_per_second = (self.step - first) * self.learner.images_a_step / max(now - started, 1e-9)
            if progress is not None and (score is not None or now - said_at > 1):
                progress(Progress(min(done, 1.0), self.step, float(np.mean(losses[-50:])), score, self.best_score))
                said_at = now
            if score is not None and self._stands_still():
                break
        self.world.share(None)  # the others have no more to do
        return self.clock.done(self.step, scoring_s) < 1

    # -- what is kept ------------------------------------------------------------------------------------------------

    def with_weights(self, weights: dict[str, Tensor]) -> OnnxModule:
        """The whole student, for `write_back`."""
        self.whole.load_state_dict(weights, strict=False)
        return self.whole

    def taken(self, before: Marked) -> tuple[onnx.ModelProto, Marked, float]:
        """The net that is taken, its marks, and how far its weights lie from those before to those taught (0..1).

        Few images, or many steps, teach some of what holds for them alone: weights on the way to where the student
        came may be better than both ends.
        """
        taken = self.original, before, 0.0
        last = self.learner.averaged()
        for share in (1.0, *SHARES):
            weights = self.best if share == 1 else self.learner.toward(last, share)
            if not weights:
                continue
            net = write_back(self.original, self.with_weights(weights))
            marked = self.scorer.mark(net)
            if marked.mark > taken[1].mark:
                taken = net, marked, share
        return taken

    def _evaluate(self) -> float:
        averaged = self.learner.averaged()
        score = self.scorer.mark(write_back(self.original, self.with_weights(averaged))).mark
        self.history.append((self.step, score))
        if score > self.best_score:
            self.best, self.best_score = averaged, score
        return score

    def _stands_still(self) -> bool:
        """Whether nothing has become better for long, in the second half of the schedule.

        The first half says nothing: large steps undo much of a good refit, the first evaluations see the least of that,
        and only the small steps at the end lead beyond them.
        """
        scores = [score for _, score in self.history[self.settings.evaluations // 2 :]]
        return bool(scores) and len(scores) - 1 - int(np.argmax(scores)) >= self.settings.patience

    def _keep(self) -> None:
        assert self.checkpoint is not None
        Checkpoint(
            settings=self.identity,
            step=self.step,
            seconds=self.clock.seconds,
            **self.learner.state(),
            ceiling=self.ceiling.state,
            best=self.best,
            best_score=float(self.best_score),
            evaluations=self.evaluations,
            history=self.history,
        ).save(self.checkpoint)

    def _go_on(self, kept: Checkpoint) -> None:
        self.learner.restore(vars(kept))
        self.step, self.evaluations = kept.step, kept.evaluations
        self.ceiling = Ceiling(kept.ceiling)
        self.best, self.best_score, self.history = kept.best, kept.best_score, [tuple(item) for item in kept.history]
        self.clock = Clock(self.settings, self.learner.loader.steps_per_epoch, kept.seconds)
