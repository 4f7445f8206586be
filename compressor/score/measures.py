"""What a score is made of, given what the original computes on the same samples.

With n samples, `p` and `p0` the class probabilities of the candidate and of the original (softmax of the outputs,
unless the original's outputs are probabilities already), and `y` the labels:

- accuracy      value = share of samples with argmax p = y
                soft  = mean of p[y]
- agreement     value = share of samples (for class maps: of pixels) with argmax p = argmax p0
                soft  = mean of sum_k min(p_k, p0_k), which is 1 minus the total variation distance
- closeness     for an output Y of floats, with Y0 the original's and M the mean of Y0 over the samples
                (over its elements when there is one sample):
                    e = ||Y - Y0||^2 / ||Y0 - M||^2
                value = mean over outputs of max(0, 1 - e): the share of what varies with the input that is kept
                soft  = mean over outputs of 1 / (1 + e), which still falls where the value has reached zero.
                Each feature (see `features_of`) of an output of several axes has an e of its own, and both are means
                over those that vary. An output that does not vary is compared with ||Y0||^2 below. An output of
                integers counts the equal elements. A row that is not finite, or not of the original's shape (detections
                after suppression), counts as lost whole, and as no less than an average row.

A search ranks by the soft value for the most part: of few images it says more, since it does not hang on those that lie
near a boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ..features import LIVE
from .outputs import Rows, sample_positions

__all__ = [
    "ClassScore",
    "Closeness",
    "Kind",
    "Measure",
    "Score",
    "Votes",
    "flat_rows",
    "gather_votes",
    "is_probability",
]

Kind = Literal["accuracy", "agreement"]
_SOFT_SHARE = 0.9
"""Of what a search ranks by. Over plans of ResNet-20 at one latency, the soft agreement on 500 images after the
correction had a rank correlation of .92 with the agreement of the refitted nets on 2,000 other images; the agreement on
the 500 had .65, and needed 2,000 for .93."""


@dataclass(frozen=True)
class Score:
    """How good a candidate is."""

    value: float
    """Accuracy, agreement or closeness, in [0, 1]."""
    kind: Kind
    detail: str
    """What was compared: `top-1`, `top-1 of each pixel` or `output error`."""
    soft: float
    """The smooth companion of `value`, in [0, 1]."""

    @property
    def for_search(self) -> float:
        """Nine parts the soft score and one the value; in [0, 1]."""
        return (1 - _SOFT_SHARE) * self.value + _SOFT_SHARE * self.soft


@dataclass(frozen=True)
class ClassScore:
    """Score on the samples of one class."""

    label: int
    """The label as the data give it; without labels, the class that the original sees."""
    name: str
    samples: int
    baseline: float
    value: float


class Measure(Protocol):
    """Compares candidates with the original, whose outputs it holds."""

    @property
    def kind(self) -> Kind: ...

    @property
    def detail(self) -> str: ...

    def keep(self, outputs: Sequence[Rows]) -> list[Rows]:
        """What `score` needs of one batch."""
        ...

    def score(self, batches: Sequence[list[Rows]]) -> Score:
        """The score of a candidate from what was kept of all batches, in order."""
        ...

    def baseline(self) -> Score:
        """The score of the original itself."""
        ...


@dataclass(frozen=True, eq=False)
class Votes:
    """Accuracy or agreement: each sample votes for a class, or each pixel of it."""

    reference: np.ndarray
    """float32 (samples, pixels, classes): the original's outputs; one pixel for a classifier."""
    targets: np.ndarray
    """int64 (samples, pixels): the right class."""
    kind: Kind
    detail: str
    probabilities: bool
    """Whether the outputs are probabilities already."""
    pixels: int
    """How many pixels of a class map are looked at."""

    def keep(self, outputs: Sequence[Rows]) -> list[Rows]:
        return [gather_votes(outputs[0], self.pixels)]

    def score(self, batches: Sequence[list[Rows]]) -> Score:
        return self._score(np.concatenate([kept[0] for kept in batches]))

    def baseline(self) -> Score:
        return self._score(self.reference)

    def _score(self, votes: np.ndarray) -> Score:
        value = float(self.hits(votes).mean())
        shares = _shares(votes, self.probabilities)
        if self.kind == "accuracy":
            soft = np.take_along_axis(shares, self.targets[..., np.newaxis], axis=-1)
        else:
            soft = np.minimum(shares, _shares(self.reference, self.probabilities)).sum(axis=-1)
        return Score(value, self.kind, self.detail, float(np.clip(soft.mean(dtype=np.float64), 0, 1)))

    def hits(self, votes: np.ndarray) -> np.ndarray:
        """bool (samples, pixels): where the class with the most votes is the right one. NaN is never right."""
        return (votes.argmax(axis=-1) == self.targets) & np.isfinite(votes).all(axis=-1)


@dataclass(frozen=True, eq=False)
class Closeness:
    """How much of what varies in the original's outputs a candidate reproduces."""

    reference: tuple[tuple[np.ndarray, ...], ...]
    """Per output the flat rows of all samples."""
    at_most: int
    """Elements of a row that are looked at."""
    features: tuple[np.ndarray | None, ...]
    """Per output the feature of each element of a row; None where all are compared together."""
    kind: Kind = "agreement"
    detail: str = "output error"

    def keep(self, outputs: Sequence[Rows]) -> list[Rows]:
        return [flat_rows(rows, self.at_most) for rows in outputs]

    def score(self, batches: Sequence[list[Rows]]) -> Score:
        values, softs = [], []
        for i, reference in enumerate(self.reference):
            rows = [row for kept in batches for row in kept[i]]
            if reference[0].dtype.kind != "f":
                value, soft = _equality(reference, rows)
            else:
                value, soft = _error_scores(reference, rows, self.features[i])
            values.append(value)
            softs.append(soft)
        return Score(float(np.mean(values)), self.kind, self.detail, float(np.mean(softs)))

    def baseline(self) -> Score:
        return Score(1.0, self.kind, self.detail, 1.0)


def gather_votes(rows: Rows, pixels: int) -> np.ndarray:
    """(n, K) or (n, K, ...) as float32 (n, pixels, K), at most `pixels` positions that are always the same."""
    flat = rows.reshape(len(rows), rows.shape[1], -1)
    chosen = flat[:, :, sample_positions(flat.shape[2], pixels)]
    return np.ascontiguousarray(chosen.transpose(0, 2, 1), dtype=np.float32)


def flat_rows(rows: Rows, at_most: int) -> np.ndarray:
    """(n, elements): float32 for floats, the type itself otherwise."""
    flat = rows.reshape(len(rows), -1)
    flat = flat[:, sample_positions(flat.shape[1], at_most)]
    return np.ascontiguousarray(flat, dtype=np.float32 if flat.dtype.kind == "f" else flat.dtype)


def is_probability(votes: np.ndarray) -> bool:
    """Whether all votes (..., classes) are at or above zero and sum to one, to the rounding of fp16."""
    return bool((votes >= 0).all() and np.allclose(votes.sum(axis=-1), 1, atol=1e-2))


def _shares(votes: np.ndarray, probabilities: bool) -> np.ndarray:
    """Probabilities of the shape of `votes`; zero where the votes are not finite."""
    finite = np.isfinite(votes).all(axis=-1, keepdims=True)
    votes = np.where(finite, votes, 0)
    if probabilities:
        return np.where(finite, np.clip(votes, 0, 1), 0)
    raised = np.exp(votes - votes.max(axis=-1, keepdims=True))
    return np.where(finite, raised / raised.sum(axis=-1, keepdims=True), 0)


def _error_scores(
    reference: Sequence[np.ndarray], rows: Sequence[np.ndarray], features: np.ndarray | None
) -> tuple[float, float]:
    """Value and soft of one output of floats."""
    same_size = len({row.size for row in reference}) == 1
    if features is not None and same_size and reference[0].size == features.size:
        found = _feature_errors(reference, rows, features)
        if found.size:
            return float(np.maximum(0.0, 1.0 - found).mean()), float((1.0 / (1.0 + found)).mean())
    if same_size and len(reference) > 1:
        mean = np.mean(reference, axis=0, dtype=np.float64)
        variation = [_energy(row - mean) for row in reference]
    else:
        variation = [_energy(row - row.mean(dtype=np.float64)) if row.size else 0.0 for row in reference]
    energy = sum(_energy(row) for row in reference)
    if sum(variation) <= 1e-9 * energy:
        variation = [_energy(row) for row in reference]
    total = sum(variation)
    lost = 0.0
    for row, original, whole in zip(rows, reference, variation, strict=True):
        error = _energy(row - original) if row.shape == original.shape else np.inf
        lost += error if np.isfinite(error) else max(whole, total / len(variation))
    error = lost / total if total > 0 else (0.0 if lost == 0 else np.inf)
    return max(0.0, 1.0 - error), 1.0 / (1.0 + error)


def _feature_errors(reference: Sequence[np.ndarray], rows: Sequence[np.ndarray], features: np.ndarray) -> np.ndarray:
    """e of each feature that varies."""
    mean = np.mean(reference, axis=0, dtype=np.float64)
    if len(reference) == 1:
        mean = (np.bincount(features, mean) / np.bincount(features))[features]
    variation, error, lost = np.zeros(mean.shape), np.zeros(mean.shape), 0
    for row, original in zip(rows, reference, strict=True):
        variation += np.square(original - mean)
        if row.shape == original.shape and np.isfinite(row).all():
            error += np.square(row - original, dtype=np.float64)
        else:
            lost += 1
    whole, missed = np.bincount(features, variation), np.bincount(features, error)
    varies = whole > LIVE * whole.max()
    return (missed[varies] / whole[varies]) + lost / len(reference)


def _equality(reference: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> tuple[float, float]:
    """Share of equal elements, a row of another shape counting as all different."""
    shares = [
        (float(np.mean(row == original)) if original.size else 1.0) if row.shape == original.shape else 0.0
        for row, original in zip(rows, reference, strict=True)
    ]
    share = float(np.mean(shares))
    return share, share


def _energy(values: np.ndarray) -> float:
    return float(np.sum(np.square(values, dtype=np.float64)))
