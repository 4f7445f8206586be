"""Closed-form recovery of a candidate: least-squares weights for what is left, from the moments gathered once.

A consumer that computed `W x + b` from all columns computes `W' x_S + b'` from the kept ones, with
`W', b' = argmin E ||W x + b - W' x_S - b'||^2 + ridge ||W' - W_S||^2` (He et al., Channel Pruning, ICCV 2017, eq. 4,
with the bias refitted too, and a ridge that draws to the original weights).

The refitted weights go into a copy of the *original*, with zeros where channels are removed; slimming it then gives the
candidate. So `slim` turns a branch that lost every unit into its mean without knowing of means, and `verify` holds for
refitted candidates as for plain ones.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from ...graph.group import ChannelAnalysis, Role
from ...graph.protos import copy_without_weights
from .consumers import weights_of
from .matrices import Consumer
from .moments import Moment, Moments

__all__ = ["RIDGE", "Refitter", "fit", "with_weights"]

RIDGE = 1e-4
"""Relative to the mean second moment of the kept columns."""
_SHRINKAGE = 0.05
"""Ridge where there are just as many rows as columns; it grows as rows get fewer."""


def with_weights(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy of the model in which these initializers have other values, in their own type."""
    out = copy_without_weights(model)
    for tensor in model.graph.initializer:
        if tensor.name in values:
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor = numpy_helper.from_array(np.ascontiguousarray(values[tensor.name], dtype=kind), tensor.name)
        out.graph.initializer.append(tensor)
    return out


def firm(ridge: float, moment: Moment) -> float:
    """The ridge for these moments: firmer where they were taken over few rows.

    A classifier behind a global pool sees one row an image. With 250 images for 1,280 columns least squares explains
    any loss away on the images that it was fitted on, and on no others: both the refit and the ranking need shrinkage.
    """
    scarcity = moment.mean.shape[1] / max(1, moment.rows)
    return ridge if scarcity <= 1 else max(ridge, _SHRINKAGE * scarcity)


def ridged(hessian: np.ndarray, ridge: float) -> np.ndarray:
    """A copy of `groups x n x n` second moments with `ridge` times their mean diagonal added to it."""
    out = hessian.copy()
    diagonal = np.arange(out.shape[1])
    level = out[:, diagonal, diagonal].mean(axis=1, keepdims=True)
    # Columns that never vary (dead channels) leave the matrix singular; the floor keeps all-dead inputs solvable.
    out[:, diagonal, diagonal] += np.maximum(ridge * level, np.finfo(np.float32).tiny)
    return out


def fit(
    moment: Moment, matrix: np.ndarray, gone: np.ndarray, *, centred: bool, ridge: float = RIDGE
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares without the columns `gone` (`groups x r`).

    Args:
        matrix: W, `groups x rows x columns`.
        centred: whether a bias takes up the mean.

    Returns:
        W' in the shape of `matrix`, zero in the columns that are gone; and what the bias gains, `groups x rows`.
    """
    groups, _, columns = matrix.shape
    left = np.ones((groups, columns), dtype=bool)
    np.put_along_axis(left, gone, False, 1)
    kept = np.stack([np.flatnonzero(mask) for mask in left])
    hessian = moment.covariance if centred else moment.uncentred
    slim = matrix.copy()
    np.put_along_axis(slim, gone[:, None, :], 0.0, 2)
    if kept.shape[1]:
        rows = np.take_along_axis(hessian, kept[:, :, None], 1)
        inner = ridged(np.take_along_axis(rows, kept[:, None, :], 2), firm(ridge, moment))
        # W itself is one answer for the kept columns, so only what is lost needs a right-hand side.
        lost = np.take_along_axis(rows, gone[:, None, :], 2) @ np.take_along_axis(matrix, gone[:, None, :], 2).swapaxes(
            1, 2
        )
        start = np.take_along_axis(slim, kept[:, None, :], 2)
        np.put_along_axis(slim, kept[:, None, :], start + np.linalg.solve(inner, lost).swapaxes(1, 2), 2)
    shift = ((matrix - slim) @ moment.mean[:, :, None])[:, :, 0]
    return slim, shift


@dataclass(frozen=True)
class _Solution:
    weight: np.ndarray = field(repr=False)
    shift: np.ndarray = field(repr=False)
    """What the bias gains, one value an output channel."""


class Refitter:
    """Refits candidates of one model; solutions are kept, since a search meets the same widths again and again.

    With a fixed ranking the channels that a consumer keeps depend only on the widths of the groups that feed it.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        analysis: ChannelAnalysis,
        moments: Moments,
        *,
        ridge: float = RIDGE,
        cache: int = 512,
    ) -> None:
        """`cache`: MiB of solutions that are kept."""
        self._model = model
        self._analysis = analysis
        self._moments = moments
        self._ridge = ridge
        self._room = cache * 2**20
        self._consumers: Mapping[str, Consumer] = {c.weight: c for c in moments.consumers.values()}
        biases = (c.bias.tensor for c in moments.consumers.values() if c.bias is not None)
        self._arrays = weights_of(model, [*self._consumers, *biases])
        self._solutions: OrderedDict[tuple[str, tuple[int, ...]], _Solution] = OrderedDict()

    def __call__(self, removal: Mapping[str, Collection[int]]) -> onnx.ModelProto:
        """A copy of the original whose consumers do without the removed channels; `slim` it by the same `removal`.

        Raises:
            PlanError: a removal that the analysis does not allow.
        """
        removed: dict[str, set[int]] = defaultdict(set)
        for name, units in removal.items():
            for cut in self._analysis.group(name).slices(units):
                consumer = self._consumers.get(cut.tensor)
                if consumer is not None and cut.role is Role.CONSUMER and cut.axis == consumer.channel_axis:
                    removed[cut.tensor].update(cut.indices)
        values: dict[str, np.ndarray] = {}
        for tensor, positions in removed.items():
            consumer = self._consumers[tensor]
            solution = self._solution(consumer, tuple(sorted(positions)))
            values[tensor] = solution.weight
            if consumer.bias is not None:
                values[consumer.bias.tensor] = self._arrays[consumer.bias.tensor] + consumer.bias.values(solution.shift)
        return with_weights(self._model, values)

    def _solution(self, consumer: Consumer, removed: tuple[int, ...]) -> _Solution:
        key = (consumer.node, removed)
        found = self._solutions.pop(key, None)
        if found is None:
            matrix = consumer.matrix(self._arrays[consumer.weight])
            slim, shift = fit(
                self._moments[consumer.node],
                matrix,
                consumer.columns_at(removed),
                centred=consumer.bias is not None,
                ridge=self._ridge,
            )
            weight = np.ascontiguousarray(consumer.tensor(slim), dtype=np.float32)
            found = _Solution(weight, consumer.offsets(shift))
            self._room -= weight.nbytes
            while self._room < 0 and self._solutions:
                _, oldest = self._solutions.popitem(last=False)
                self._room += oldest.weight.nbytes
        self._solutions[key] = found
        return found
