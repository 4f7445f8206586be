"""Plans made from the table and the damage hints alone: uniform, knapsack, random, and changes of a given plan."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from operator import getitem

import numpy as np

from ..budget import Budget, Row
from ..space import Choice

__all__ = ["Planner", "damage_curve"]


def damage_curve(choice: Choice, hints: Mapping[str, Mapping[int, float]]) -> np.ndarray:
    """Expected damage (widths,) of each width of one group; 0 at full width.

    From the hints (`Space.damage`) where it is known (linear in between); else a parabola through the damage at half
    width; else the same parabola for every group, which spreads the cut evenly.
    """
    share = np.array(choice.widths) / choice.size
    known = {width: value for width, value in hints.get(choice.group, {}).items() if width < choice.size}
    if known:
        at = [*sorted(known), choice.size]
        # Least squares cannot do better with fewer channels; a hint that says so is noise.
        values = np.maximum.accumulate([0.0, *(known[width] for width in reversed(at[:-1]))])[::-1]
        return np.interp(choice.widths, at, values)
    return 4.0 * choice.features.get("damage", 1.0) * (1.0 - share) ** 2


class Planner:
    """Makes rows that fit the budget, where any do. Inside, a plan is an array of indices into each group's widths."""

    def __init__(self, budget: Budget, rng: np.random.Generator) -> None:
        self.budget = budget
        self.rng = rng
        self.last = np.array([len(widths) - 1 for widths in budget.widths])
        # At least two columns, so that there is always a (closed) step to look at.
        self._padded = np.full((len(self.last), max(2, int(self.last.max()) + 1)), np.inf)

    # -- what is known of each group on its own ----------------------------------------------------------------------

    @cached_property
    def damage(self) -> np.ndarray:
        """Damage (groups, most widths) of each width; inf where a group has fewer widths."""
        damage = self._padded.copy()
        for g, choice in enumerate(self.budget.space.choices):
            damage[g, : self.last[g] + 1] = damage_curve(choice, self.budget.space.damage)
        return damage

    @cached_property
    def latency(self) -> np.ndarray:
        """Ratio (groups, most widths) of the whole net as one group moves; inf where a group has fewer widths.

        The other groups stand where a uniform plan meets the target, since what a channel costs depends on how many its
        neighbours keep.
        """
        latency = self._padded.copy()
        around = self.uniform()
        for g, widths in enumerate(self.budget.widths):
            for i, width in enumerate(widths):
                latency[g, i] = self.budget.predicted((*around[:g], width, *around[g + 1 :]))
        return latency

    @cached_property
    def rates(self) -> np.ndarray:
        """Damage per latency (groups, most widths - 1) of the step from width i + 1 down to i; inf where none is."""
        steps = self.last[:, None] > np.arange(self._padded.shape[1] - 1)
        rates = np.full(steps.shape, np.inf)
        saved = np.subtract(self.latency[:, 1:], self.latency[:, :-1], where=steps, out=np.ones(steps.shape))
        done = np.subtract(self.damage[:, :-1], self.damage[:, 1:], where=steps, out=np.ones(steps.shape))
        # A step that saves nothing is never worth its damage, and free of charge on the way back up.
        rates[steps] = (np.maximum(done, 1e-12) / np.maximum(saved, 1e-9))[steps]
        return rates

    def row(self, index: np.ndarray) -> Row:
        """Units kept, from indices."""
        return tuple(map(getitem, self.budget.widths, index.tolist()))

    def index(self, row: Row) -> np.ndarray:
        """Indices of the offered widths nearest to `row`."""
        near = (np.abs(np.array(w) - kept).argmin() for w, kept in zip(self.budget.widths, row, strict=True))
        return np.array(list(near))

    # -- whole plans -------------------------------------------------------------------------------------------------

    @cached_property
    def uniform_rows(self) -> tuple[Row, ...]:
        """Every plan that keeps one share of all groups, rounded to their widths; narrowest first."""
        # Shares at which a group's rounded width changes: in between, so does no plan.
        turns = [(np.array(w[:-1]) + np.array(w[1:])) / (2 * w[-1]) for w in self.budget.widths]
        shares = np.concatenate([[0.0], np.unique(np.concatenate(turns))])
        columns = [
            np.array(w)[turn.searchsorted(shares, "right")] for w, turn in zip(self.budget.widths, turns, strict=True)
        ]
        return tuple(dict.fromkeys(map(tuple, np.stack(columns, axis=1).tolist())))

    def uniform(self) -> Row:
        """The widest uniform plan that fits, by bisection; the narrowest if none does."""
        low, high = 0, len(self.uniform_rows)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.budget.fits(self.uniform_rows[middle]) else (low, middle)
        return self.uniform_rows[low]

    def knapsack(self, weights: np.ndarray) -> Row:
        """Least summed damage, each group's times `weights` (groups,), within the budget.

        A multiple-choice knapsack solved by its Lagrangian (every group takes the width with the least damage + price *
        latency, the price found by bisection), the rest of the budget filled up step by step.
        """
        damage = weights[:, None] * self.damage
        scale = weights.max() * float(np.nanmax(np.where(np.isfinite(self.damage), self.damage, np.nan))) or 1.0
        fitting: np.ndarray | None = None
        low, high = -8.0, 8.0
        for _ in range(32):
            price = (low + high) / 2
            index = (damage + scale * 10.0**price * self.latency).argmin(axis=1)
            if self.budget.fits(self.row(index)):
                fitting, high = index, price
            else:
                low = price
        if fitting is None:
            return self.budget.narrowest
        return self.row(self.widen(fitting, weights[:, None] * self.rates, np.ones(len(fitting), dtype=bool)))

    def random(self) -> Row:
        """Independent uniform widths, then random steps down or up until the budget is just kept. Knows no damage."""
        index = self.rng.integers(0, self.last + 1)
        rates = np.where(np.isfinite(self.rates), self.rng.random(self.rates.shape), np.inf)
        return self.settle(index, rates, np.ones(len(index), dtype=bool))

    def mutate(self, row: Row, moves: int) -> Row:
        """`row` with `moves` groups changed, the others adjusted to the budget where that costs least.

        What costs least is judged by the damage hints times random weights, so that the same change is paid for in a
        different place each time.
        """
        index = self.index(row)
        movable = np.flatnonzero(self.last > 0)
        free = np.ones(len(index), dtype=bool)
        if len(movable):
            for g in self.rng.choice(movable, size=min(moves, len(movable)), replace=False):
                index[g] = self._other(int(index[g]), int(self.last[g]))
                free[g] = False
        weights = np.exp(self.rng.normal(size=len(index)))
        return self.settle(index, weights[:, None] * self.rates, free)

    def _other(self, at: int, last: int) -> int:
        """Another index in 0..last: mostly a neighbour, now and then any."""
        if self.rng.random() < 0.3:
            return (at + int(self.rng.integers(1, last + 1))) % (last + 1)
        step = 1 if self.rng.random() < 0.5 else -1
        return at + step if 0 <= at + step <= last else at - step

    def nearest(self, row: Row) -> Row:
        """`row` itself if all of its widths are offered, else a plan near it that just keeps to the budget."""
        index = self.index(row)
        return row if self.row(index) == row else self.settle(index, self.rates, np.ones(len(index), dtype=bool))

    # -- keeping to the budget ---------------------------------------------------------------------------------------

    def settle(self, index: np.ndarray, rates: np.ndarray, free: np.ndarray) -> Row:
        """`index` brought to just within the budget by moving the `free` groups (all, if that is not enough)."""
        index = self.narrow(index, rates, free)
        if not self.budget.fits(self.row(index)):
            index = self.narrow(index, rates, np.ones(len(index), dtype=bool))
        return self.row(self.widen(index, rates, free))

    def narrow(self, index: np.ndarray, rates: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Cheapest steps down among the `free` groups until the plan fits, or none is left."""
        index, groups = index.copy(), np.arange(len(index))
        while not self.budget.fits(self.row(index)):
            price = np.where(free & (index > 0), rates[groups, index - 1], np.inf)
            cheapest = int(price.argmin())
            if not np.isfinite(price[cheapest]):
                break
            index[cheapest] -= 1
        return index

    def widen(self, index: np.ndarray, rates: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Dearest steps up among the `free` groups while the plan fits."""
        index, groups, free = index.copy(), np.arange(len(index)), free.copy()
        if not self.budget.fits(self.row(index)):
            return index
        while True:
            free &= index < self.last
            if not free.any():
                return index
            worth = np.where(free, rates[groups, np.minimum(index, rates.shape[1] - 1)], -np.inf)
            dearest = int(worth.argmax())
            index[dearest] += 1
            if not self.budget.fits(self.row(index)):
                # The plan only grows from here on, so what does not fit now never will.
                index[dearest] -= 1
                free[dearest] = False
