"""Taking units out of a group one at a time, with every consumer refitted after each: what does it cost?

The optimal brain surgeon (Hassibi and Stork, 1993) with one block of columns a unit: for a consumer with weights W, H
the second moments of its columns and P = H^-1, removing the columns u and refitting the others adds the squared error
`tr(W_u P_uu^-1 W_u^T)`; then `W -= W_u P_uu^-1 P_u:` and `P -= P_:u P_uu^-1 P_u:`. Errors of a sequence of removals
add up to the error of least squares on what is left, exactly but for the ridge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .matrices import Consumer
from .moments import Moment
from .refit import RIDGE, firm, ridged

__all__ = ["Elimination"]

_COMPACT = 0.85
"""Arrays are shrunk to what is left when less than this share of them is in use."""


class Elimination:
    """One consumer while it loses the units of one group."""

    def __init__(
        self,
        consumer: Consumer,
        weight: np.ndarray,
        moment: Moment,
        units: Sequence[Sequence[int]],
        *,
        scale: np.ndarray | float = 1.0,
        ridge: float = RIDGE,
    ) -> None:
        """
        Args:
            units: for each unit of the group the positions of the weight's channel axis that go with it.
            scale: factor of errors, for all output channels or for each.
            ridge: relative to the mean of H's diagonal.
        """
        hessian = moment.uncentred if consumer.bias is None else moment.covariance
        factors = np.broadcast_to(scale, consumer.outputs)
        self._weight = consumer.matrix(weight) * consumer.rows_of(factors)[:, :, None]
        self._inverse = np.linalg.inv(ridged(hessian, firm(ridge, moment)))
        self._columns = {unit: consumer.columns_at(positions) for unit, positions in enumerate(units)}
        self._alive = np.ones(hessian.shape[:2], dtype=bool)

    def costs(self, units: Sequence[int]) -> np.ndarray:
        """Squared error, a row, that the removal of each of these units alone would add."""
        out = np.empty(len(units))
        sizes = np.array([self._columns[unit].shape[1] for unit in units])
        for size in np.unique(sizes):
            members = np.flatnonzero(sizes == size)
            columns = np.stack([self._columns[units[place]] for place in members.tolist()])
            if size == 1:  # 1x1 convolutions and Gemm: many units, and blocks too small for a call of LAPACK each
                wanted = columns[:, :, 0].T  # of those that are gone nothing but rounding errors is left
                norms = np.einsum("grc,grc->gc", self._weight, self._weight)
                norms, diagonal = (
                    np.take_along_axis(of, wanted, 1) for of in (norms, np.diagonal(self._inverse, axis1=1, axis2=2))
                )
                with np.errstate(over="ignore"):  # a column that nothing can stand in for costs any amount
                    out[members] = (norms / np.maximum(diagonal, np.finfo(np.float64).tiny)).sum(axis=0)
            else:
                blocks, weights = self._blocks(columns)
                out[members] = np.einsum("ugcr,ugcr->u", weights, np.linalg.solve(blocks, weights))
        return out

    def remove(self, unit: int) -> float:
        """Takes the unit out; returns the squared error, a row, that this adds."""
        columns = self._columns.pop(unit)
        blocks, weights = (part[0] for part in self._blocks(columns[None]))
        rows = np.take_along_axis(self._inverse, columns[:, :, None], 1)
        step = np.linalg.solve(blocks, rows)
        added = float((weights * np.linalg.solve(blocks, weights)).sum())
        self._weight -= weights.swapaxes(1, 2) @ step
        self._inverse -= rows.swapaxes(1, 2) @ step
        np.put_along_axis(self._alive, columns, False, 1)
        if self._alive.sum() < _COMPACT * self._alive.size:
            self._compact()
        return max(0.0, added)

    def _blocks(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For `units x groups x c` columns: `P_uu` (units x groups x c x c) and `W_u` transposed (... x c x rows)."""
        group = np.arange(columns.shape[1])[None, :, None]
        blocks = self._inverse[group[..., None], columns[..., :, None], columns[..., None, :]]
        return blocks, self._weight.swapaxes(1, 2)[group, columns]

    def _compact(self) -> None:
        """Drop the columns that are gone: every update costs their square."""
        left = np.stack([np.flatnonzero(alive) for alive in self._alive])
        self._inverse = np.take_along_axis(np.take_along_axis(self._inverse, left[:, :, None], 1), left[:, None, :], 2)
        self._weight = np.take_along_axis(self._weight, left[:, None, :], 2)
        moved = np.cumsum(self._alive, axis=1) - 1
        self._columns = {unit: np.take_along_axis(moved, at, 1) for unit, at in self._columns.items()}
        self._alive = np.ones(left.shape, dtype=bool)
