"""Which measure suits a model: read off its outputs on the reward samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...errors import DataError, ModelError
from ..data import Dataset
from ..features import features_of
from .measures import Closeness, Measure, Votes, flat_rows, gather_votes, is_probability
from .outputs import Rows, sample_positions

__all__ = ["Gathered", "choose_measure"]

_ELEMENTS = 32 << 20
"""Numbers of the original's outputs that are kept over all samples: 128 MB."""
_FEWEST_HITS = 5
"""Images more that a shift of the labels must put right before it is suggested."""
_FEWEST = 4096

Form = Literal["classes", "map", "tensors"]


class Gathered:
    """The original's outputs, cut down batch by batch to what a measure can need of them.

    A model has the form of a classifier when its only output is of floats and of shape (n, K) or (n, K, 1, 1), K >= 2;
    and that of a class map when it is (n, K, H, W) with the height and width of the image, and K >= 2 is not 3
    (which would rather be an RGB image) or the K numbers are probabilities.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.form: Form | None = None
        self.at_most = 0
        """Numbers of an output that are kept of one sample."""
        self.features: list[np.ndarray | None] = []
        """Per output the feature of each number that is kept."""
        self.pixels = 1
        """Pixels that are kept of a class map."""
        self.votes: list[np.ndarray] = []
        """Of classifiers and class maps: float32 (batch, pixels, classes)."""
        self.rows: list[list[np.ndarray]] = []
        """Of all but class maps: per output (batch, elements)."""

    def add(self, names: tuple[str, ...], outputs: Sequence[Rows]) -> None:
        """One batch.

        Raises:
            ModelError: the original itself computes NaN or infinity.
        """
        if self.form is None:
            self.form = self._look(names, outputs)
        for name, rows in zip(names, outputs, strict=True):
            if rows.dtype.kind == "f" and not np.isfinite(rows).all():
                raise ModelError(
                    f"output {name!r} of the original holds NaN or infinity on {self.dataset.source}: "
                    "check the preprocessing"
                )
        if self.form != "tensors":
            self.votes.append(gather_votes(outputs[0], self.pixels))
        if self.form != "map":
            self.rows.append([flat_rows(rows, self.at_most) for rows in outputs])

    def _look(self, names: tuple[str, ...], outputs: Sequence[Rows]) -> Form:
        strange = next((name for name, rows in zip(names, outputs, strict=True) if rows.dtype.kind not in "fiub"), None)
        if strange is not None:
            raise ModelError(f"output {strange!r} is not numeric: such a model cannot be scored")
        self.at_most = max(_FEWEST, _ELEMENTS // (len(self.dataset) * len(outputs)))
        for features in (features_of(rows.shape[1:]) for rows in outputs):
            self.features.append(None if features is None else features[sample_positions(features.size, self.at_most)])
        first = outputs[0]
        if len(outputs) != 1 or first.dtype.kind != "f" or first.ndim < 2 or first.shape[1] < 2:
            return "tensors"
        if all(size == 1 for size in first.shape[2:]):
            return "classes"
        if _is_class_map(first, self.dataset):
            self.pixels = max(1, self.at_most // first.shape[1])
            return "map"
        return "tensors"


def choose_measure(gathered: Gathered, label_offset: int) -> tuple[Measure, list[str]]:
    """The measure, and lines that the user should know.

    Accuracy for a classifier with labels. Without labels agreement for classifiers and class maps, except where it
    would say nothing: outputs at or above zero that do not sum to one (coordinates, independent attributes), or the
    same class for every sample. Closeness for all else.

    Raises:
        DataError: labels beyond the model's classes.
    """
    labels = gathered.dataset.labels
    notes: list[str] = []
    if gathered.form != "tensors":
        votes = np.concatenate(gathered.votes)
        probabilities = is_probability(votes)
        top = votes.argmax(axis=-1)
        if gathered.form == "map":
            if labels is not None:
                notes.append("the model maps pixels to classes: the labels of whole images are left aside")
            detail = "top-1 of each pixel"
            return Votes(votes, top, "agreement", detail, probabilities, gathered.pixels), notes
        if labels is not None:
            targets = _targets(gathered.dataset, votes.shape[-1], label_offset)
            notes.extend(_shift_hint(top[:, 0], targets, label_offset))
            return Votes(votes, targets[:, np.newaxis], "accuracy", "top-1", probabilities, 1), notes
        if len(np.unique(top)) > 1 and (probabilities or (votes < 0).any()):
            return Votes(votes, top, "agreement", "top-1", probabilities, 1), notes
        if probabilities:
            notes.append(
                f"the original sees class {top[0, 0]} in every one of {len(top)} images: is the preprocessing right "
                "(--mean/--std, --scale/--offset)? Outputs are compared instead of classes"
            )
    elif labels is not None:
        notes.append("the model is no classifier: the labels are left aside and its outputs compared")
    outputs = zip(*gathered.rows, strict=True)
    reference = tuple(tuple(row for rows in output for row in rows) for output in outputs)
    return Closeness(reference, gathered.at_most, tuple(gathered.features)), notes


def _is_class_map(rows: Rows, dataset: Dataset) -> bool:
    tensor = dataset.spec.image
    if rows.ndim != 4 or tensor is None or tensor.image is None:
        return False
    shape = dataset.columns[tensor.name].take(np.array([0])).shape
    height, width = shape[1:3] if tensor.image.channels_last else shape[2:4]
    same_size = rows.shape[2:] == (height, width)
    return same_size and (rows.shape[1] != 3 or is_probability(rows.transpose(0, 2, 3, 1)))


def _targets(dataset: Dataset, classes: int, label_offset: int) -> np.ndarray:
    """int64 (samples,): the class of each sample among the model's `classes`."""
    labels = dataset.labels
    if labels is None:
        raise DataError(f"{dataset.source} has no labels")
    targets = labels + label_offset
    names = dataset.class_names
    if names and len(names) + label_offset != classes:
        raise DataError(
            f"{dataset.source} has {len(names)} class folders and the model {classes} classes: name the folders by "
            "class number, or give labels.csv" + (" (or is it --label-offset 1?)" if len(names) + 1 == classes else "")
        )
    wrong = (targets < 0) | (targets >= classes)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(
            f"{dataset.source}: label {labels[at]} is beyond the model's classes 0..{classes - 1}"
            + (f" with --label-offset {label_offset}" if label_offset else "")
        )
    return targets


def _shift_hint(top: np.ndarray, targets: np.ndarray, label_offset: int) -> list[str]:
    """Whether the original would be much better with labels that are shifted by one, by more images than a few."""
    now = float(np.mean(top == targets))
    for shift in (1, -1):
        then = float(np.mean(top == targets + shift))
        if then > 2 * now + 0.05 and (then - now) * len(targets) >= _FEWEST_HITS:
            return [
                f"the original scores {100 * now:.1f} %, and {100 * then:.1f} % if all labels are shifted by {shift}: "
                f"should --label-offset be {label_offset + shift}?"
            ]
    return []
