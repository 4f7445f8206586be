"""One reference, many candidates: the original's outputs are computed once, each candidate is compared with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ...errors import DataError, DeviceError, InputError, ModelError
from ...runtime import Device, Model
from ..data import Dataset
from ..data.blend import blended
from .choose import Gathered, choose_measure
from .measures import ClassScore, Measure, Score, Votes
from .outputs import Rows, run_batches

__all__ = ["BLENDS", "Evaluation", "Marked", "Scorer", "evaluate"]

BLENDS = 0.25
"""Share of a mark. Nets that lose little differ little on images that the original was trained on, and blends decide;
where they lose much, the images themselves decide, which are more like those that the nets are for. (ResNet-20 at 0.5x:
what a search by as much of both ended with was right about 82.3 % of the test images, by a quarter or none about
83.4 %.)"""


@dataclass(frozen=True)
class Marked:
    """What a candidate came to."""

    score: Score
    """On the samples as they are."""
    mark: float
    """What candidates are compared by, in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores candidates against one original on one set of samples. Made by `build`.

    Example:
        >>> scorer = Scorer.build(model, split.reward, Device("cpu", threads=2))   # doctest: +SKIP
        >>> scorer.score(candidate).value                                          # doctest: +SKIP
    """

    dataset: Dataset
    device: Device
    """Where outputs are computed; the score depends on it only by rounding."""
    batch_size: int
    measure: Measure
    baseline: Score
    """The original's own score: its accuracy, or 1."""
    notes: tuple[str, ...]
    """Lines that the user should know."""
    label_offset: int = 0
    harder: Scorer | None = None
    """Of blends of the samples, which count `BLENDS` of a mark."""

    @classmethod
    def build(
        cls,
        original: Model,
        dataset: Dataset,
        device: Device | None = None,
        *,
        label_offset: int = 0,
        batch_size: int | None = None,
        blends: bool = False,
    ) -> Self:
        """Run the original over `dataset` and choose what to compare (see `choose_measure`).

        Where the original does not take several samples at once, though its input says so, batches of one are used.

        Args:
            label_offset: added to every label; 1 for nets whose class 0 is the background.
            batch_size: samples at a time; by default as many as keep the input small.
            blends: marks ask about blends of the samples, too, unless labels say what is right (see `mark`).

        Raises:
            DataError: labels beyond the model's classes.
            ModelError: the model does not fit these data, or computes NaN.
            DeviceError: the device could not run it.
        """
        device = device or Device("cpu")
        size = batch_size or dataset.batch_size
        try:
            gathered = _gather(original, dataset, device, size)
        except (ModelError, DeviceError):
            if size == 1 or dataset.fixed_batch is not None:
                raise
            size = 1
            gathered = _gather(original, dataset, device, size)
        measure, notes = choose_measure(gathered, label_offset)
        # With labels being right is what counts, and a blend has no right answer.
        mixed = blended(dataset) if blends and measure.kind != "accuracy" else None
        harder = None if mixed is None else cls.build(original, mixed, device, batch_size=size)
        return cls(dataset, device, size, measure, measure.baseline(), tuple(notes), label_offset, harder)

    def score(self, model: Model) -> Score:
        """How good a candidate is.

        Raises:
            ModelError: it does not run on these data.
            DeviceError: the device could not run it.
        """
        return self.measure.score(self._outputs(model))

    def mark(self, model: Model) -> Marked:
        """What to compare a candidate by.

        Images without labels are mostly ones that the original was trained on, and sure of: slim nets agree with it
        about all but a few of them, and what one can do that another cannot does not show. So part of the mark is about
        pairs of them blended. (24 corrected ResNet-56 at 0.8x, found by a search that maximised the soft agreement on
        500 training images: that score had a rank correlation of -.02 with the agreement on shrunken photographs, which
        nothing was trained on; the same on 1,000 other training images .65, on their blends .75, with three quarters of
        the one and a quarter of the other .79.)

        Raises:
            ModelError, DeviceError: as of `score`.
        """
        score = self.score(model)
        if self.harder is None:
            return Marked(score, score.for_search)
        return Marked(score, (1 - BLENDS) * score.for_search + BLENDS * self.harder.score(model).for_search)

    def detailed(self, model: Model) -> tuple[Score, tuple[ClassScore, ...]]:
        """The score, and the score on the samples of each class that occurs, from one run.

        The second is empty for measures without classes of whole samples.
        """
        outputs = self._outputs(model)
        return self.measure.score(outputs), self._per_class(outputs)

    def baseline_detailed(self) -> tuple[Score, tuple[ClassScore, ...]]:
        """`detailed` of the original, without running it again."""
        return self.baseline, self._per_class(None)

    def _per_class(self, outputs: list[list[Rows]] | None) -> tuple[ClassScore, ...]:
        """From what was kept of a candidate, or of the original when None."""
        measure = self.measure
        if not isinstance(measure, Votes) or measure.pixels > 1:
            return ()
        votes = measure.reference if outputs is None else np.concatenate([kept[0] for kept in outputs])
        before, after, targets = measure.hits(measure.reference)[:, 0], measure.hits(votes)[:, 0], measure.targets[:, 0]
        by_label = measure.kind == "accuracy"
        scores = []
        for target in np.unique(targets):
            members = targets == target
            label = int(target) - (self.label_offset if by_label else 0)
            name = self.dataset.class_names[label] if by_label and self.dataset.class_names else str(label)
            shares = float(before[members].mean()), float(after[members].mean())
            scores.append(ClassScore(label, name, int(members.sum()), *shares))
        return tuple(scores)

    def _outputs(self, model: Model) -> list[list[Rows]]:
        batches = run_batches(model, self.dataset, self.device, self.batch_size)
        return [self.measure.keep(outputs) for _, outputs in batches]


@dataclass(frozen=True)
class Evaluation:
    """What `ortrim evaluate` reports."""

    score: Score
    samples: int
    per_class: tuple[ClassScore, ...]
    notes: tuple[str, ...]


def evaluate(
    model: Model,
    dataset: Dataset,
    reference: Model | None = None,
    device: Device | None = None,
    *,
    label_offset: int = 0,
) -> Evaluation:
    """Accuracy of `model` on labelled data, or its agreement with `reference`.

    Raises:
        InputError: neither labels nor a reference.
        DataError: labels that do not fit the model, or a model that does not classify and no reference.
        ModelError: a model that does not run on these data.
    """
    if reference is not None:
        scorer = Scorer.build(reference, dataset.unlabelled(), device)
        score, per_class = scorer.detailed(model)
    else:
        if dataset.labels is None:
            raise InputError(f"{dataset.source} has no labels: give --reference ORIGINAL.onnx to compare with")
        scorer = Scorer.build(model, dataset, device, label_offset=label_offset)
        if scorer.baseline.kind != "accuracy":
            raise DataError(
                f"the labels of {dataset.source} need a classifier, which the model is not: "
                "give --reference ORIGINAL.onnx to compare with"
            )
        score, per_class = scorer.baseline_detailed()
    return Evaluation(score, len(dataset), per_class, scorer.notes)


def _gather(model: Model, dataset: Dataset, device: Device, batch_size: int) -> Gathered:
    gathered = Gathered(dataset)
    for names, outputs in run_batches(model, dataset, device, batch_size):
        gathered.add(names, outputs)
    return gathered
