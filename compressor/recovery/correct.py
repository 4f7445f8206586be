"""The correction of candidates during a search, and what each width costs after it.

Least squares of each layer alone (`Refitter`) says little of what the winner will be after the thorough refit, which
repairs a damaged early layer almost completely and a late one hardly. So candidates get the same refit in small: few
samples, few rows, one solve a layer. Over 14 mutations of one plan of ResNet-56, the rank correlation of the outputs'
error with that after a thorough refit was 0.96 (64 samples, 4 rows a column; 0.92 with 128 and 8, which takes a third
longer; 0.93 with 32 and 8), against 0.78 for layers alone, which cost much less.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from ...graph import slim
from ...graph.group import ChannelAnalysis
from ..features import LIVE, features_of
from .activations import Feeds, activations, as_feeds, sample_count
from .importance import Ranking
from .moments import Moments
from .raw_outputs import raw_outputs
from .refit import Refitter
from .sequential import SequentialRefitter

__all__ = ["CORRECTIONS", "Alone", "Corrector", "OutputDeviation", "repaired_damage", "samples_for"]

CORRECTIONS = ("sequential", "independent")
"""`Corrector` and `Alone`, as `--correction` names them."""

_ROWS_PER_COLUMN = 4
_RIDGE = 3e-2
"""Few rows want a firmer ridge than the thorough refit has."""


_SAMPLES = 64
_FEWEST = 16
_MACS = 2e10
"""Multiply-accumulates that a pass over the samples may take: 64 samples of MobileNetV2."""


def samples_for(macs: int) -> int:
    """How many samples a `Corrector` should use for a net of so many multiply-accumulates a sample."""
    return int(np.clip(_MACS / max(1, macs), _FEWEST, _SAMPLES))


class Alone:
    """Makes slim nets of one model in which each layer is refitted alone: cheap, and worth less."""

    def __init__(self, model: onnx.ModelProto, analysis: ChannelAnalysis, moments: Moments) -> None:
        self._analysis = analysis
        self._refit = Refitter(model, analysis, moments)

    def __call__(self, removal: Mapping[str, Collection[int]]) -> onnx.ModelProto:
        """The slim net without the units of `removal`.

        Raises:
            PlanError: a removal that the analysis does not allow.
        """
        units = {name: tuple(gone) for name, gone in removal.items()}
        return slim(self._refit(units), units, analysis=self._analysis)


class Corrector:
    """Makes slim nets of one model, corrected layer by layer."""

    def __init__(
        self,
        model: onnx.ModelProto,
        analysis: ChannelAnalysis,
        moments: Moments,
        images: np.ndarray | Feeds,
        *,
        samples: int = _SAMPLES,
        threads: int = 0,
        seed: int = 0,
    ) -> None:
        """
        Args:
            images: preprocessed samples, `n x ...`, or one array an input by name.
            samples: how many of them are used.
            threads: for onnxruntime; 0 is its default.

        Raises:
            DataError: data that does not fit the model's inputs.
        """
        feeds = as_feeds(model, images)
        order = np.random.default_rng(seed).permutation(sample_count(feeds))[:samples]
        some = {name: array[order] if array.ndim else array for name, array in feeds.items()}
        self._alone = Alone(model, analysis, moments)
        self._in_turn = SequentialRefitter(
            model, analysis, some, rows_per_column=_ROWS_PER_COLUMN, threads=threads, seed=seed
        )

    def __call__(self, removal: Mapping[str, Collection[int]]) -> onnx.ModelProto:
        """The slim net without the units of `removal`.

        Raises:
            PlanError: a removal that the analysis does not allow.
        """
        # The matrices are small: a second thread gains nothing, and where another job has a core, each product waits
        # for it (ResNet-20 beside a training: 3.2 s a candidate with two threads, 0.7 s with one).
        with threadpool_limits(1, user_api="blas"):
            return self._in_turn(self._alone(removal), removal, ridge=_RIDGE, iterations=1)


class OutputDeviation:
    """How far a net's outputs are from the original's: squared error relative to their variance over samples.

    Each feature of an output of several axes is measured by its own variance (see `features_of`). Of outputs that a
    Softmax or Sigmoid makes, what it reads is compared: afterwards large errors look small.
    """

    def __init__(self, model: onnx.ModelProto, images: np.ndarray | Feeds, *, threads: int = 0) -> None:
        """
        Raises:
            DataError: data that does not fit the model's inputs.
        """
        self._tensors = raw_outputs(model)
        self._feeds = as_feeds(model, images)
        self._threads = threads
        self._wanted = self._outputs(model)

    def __call__(self, net: onnx.ModelProto) -> float:
        """Mean over the floating-point outputs: 0 is the original, 1 as good as a constant."""
        shares = []
        for name, got in self._outputs(net).items():
            wanted = self._wanted[name]
            variance = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0).ravel()
            error = ((got - wanted) ** 2).sum(axis=0).ravel()
            features = features_of(wanted.shape[1:])
            if features is None:
                features = np.zeros(variance.size, int)
            whole, missed = np.bincount(features, variance), np.bincount(features, error)
            varies = whole > LIVE * whole.max(initial=0.0)
            if varies.any():
                shares.append(float(np.mean(missed[varies] / whole[varies])))
        return float(np.mean(shares)) if shares else 0.0

    def _outputs(self, net: onnx.ModelProto) -> dict[str, np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {}
        for values in activations(net, self._tensors, self._feeds, threads=self._threads):
            for name, array in values.items():
                if np.issubdtype(array.dtype, np.floating):
                    parts.setdefault(name, []).append(array.astype(np.float32))
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def repaired_damage(
    error: Callable[[str, int], float],
    ranking: Ranking,
    widths: Mapping[str, Sequence[int]],
    *,
    points: int = 3,
    asked: Collection[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[int, float]]:
    """Error of the outputs when one group alone is narrowed, after correction: group -> width -> error.

    Args:
        error: of the net whose group is narrowed to a width, as by an `OutputDeviation` on samples that the corrector
            does not use.
        ranking: its damage is the curve that fills in between the measured widths.
        widths: the widths of interest of each group.
        points: widths of a group that are measured, evenly spread, the narrowest among them.
        asked: groups that are measured; None is all. Of the others the curve counts, times what repair left of those
            that are measured (the median).
        progress: told of widths done and of all there are.
    """
    chosen = {
        name: _spread([w for w in sorted(of) if w < len(ranking.order[name])], points)
        for name, of in widths.items()
        if asked is None or name in asked
    }
    total, done = sum(map(len, chosen.values())), 0
    damage: dict[str, dict[int, float]] = {}
    left: list[float] = []
    for name, measured in chosen.items():
        size, known, curve = len(ranking.order[name]), {}, ranking.damage.get(name, {})
        for width in measured:
            known[width] = error(name, width)
            done += 1
            if progress is not None:
                progress(done, total)
        damage[name] = {w: _between(w, size, known, curve) for w in {*widths[name], size}}
        left += [known[place] / curve[place] for place in measured if curve.get(place, 0.0) > 0]
    usual = float(np.median(left)) if left else 1.0
    for name in [name for name in widths if name not in damage]:
        curve = ranking.damage.get(name, {})
        damage[name] = {w: usual * curve.get(w, 0.0) for w in {*widths[name], len(ranking.order[name])}}
    return {name: damage[name] for name in widths}


def _spread(widths: Sequence[int], points: int) -> list[int]:
    if len(widths) <= points:
        return list(widths)
    return [widths[round(place)] for place in np.linspace(0, len(widths) - 1, points)]


def _between(width: int, size: int, known: Mapping[int, float], curve: Mapping[int, float]) -> float:
    """The damage at a width from that at others: what of the unrepaired curve is left changes evenly in between."""
    if width == size or not known:
        return 0.0
    places = sorted(known)
    if all(curve.get(place, 0.0) > 0 for place in (*places, width)):
        shares = [known[place] / curve[place] for place in places]
        return float(np.interp(width, places, shares)) * curve[width]
    return float(np.interp(width, [*places, size], [*(known[place] for place in places), 0.0]))
