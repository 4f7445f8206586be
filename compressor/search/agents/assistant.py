"""The assistant: predicts the score of a plan from the trials so far, and says how far it can be trusted.

A Gaussian process over plans (Rasmussen and Williams, 2006, chapter 2) whose prior is what is known before the first
trial: the loss is about in proportion to the summed damage hints. The kernel adds up what each group may deviate from
that (one for each group and pair of widths) and a common term for what groups do to each other.
"""

from __future__ import annotations

import itertools

import numpy as np

__all__ = ["Assistant"]

WINDOW = 20
"""Predictions that the running rank correlation looks back on."""
WILD = 6.0
"""Losses further above the best than this many spreads count as that far: wrecks need no exact prediction."""
JITTER = 1e-6


class Assistant:
    """Predicted loss (1 - score) of plans, given as indices (n, groups) into each group's widths.

    Args:
        damage: (groups, most widths), the hints; inf where a group has fewer widths.
    """

    def __init__(self, damage: np.ndarray) -> None:
        finite = np.where(np.isfinite(damage), damage, 0.0)
        self.damage = finite / max(float(finite.max(axis=1).mean()), 1e-12)
        # Distances in the root of the damage: the same step counts more where it hurts more.
        self.place = np.sqrt(self.damage)
        self.plans = np.zeros((0, len(damage)), dtype=int)
        self.losses = np.zeros(0)
        self.inherited = 0
        self._guesses: list[tuple[float, float]] = []
        self._settings = (0.3, 0.3, 0.05)
        self._fitted = 0

    def features(self, plans: np.ndarray) -> np.ndarray:
        """Places (n, groups) of the plans."""
        return self.place[np.arange(plans.shape[1]), plans]

    def inherit(self, plans: np.ndarray, losses: np.ndarray) -> None:
        """Losses (n,) of plans (n, groups) in an earlier search of these groups: known, but no proof of trust."""
        self.inherited = len(losses)
        self.plans = np.vstack([plans, self.plans])
        self.losses = np.append(losses, self.losses)
        self._fit()

    @property
    def observed(self) -> int:
        """Losses of this search."""
        return len(self.losses) - self.inherited

    def observe(self, plan: np.ndarray, loss: float) -> None:
        """Learn one loss; what was predicted for it beforehand counts for `trust`."""
        if len(self.losses) >= 4:
            self._guesses.append((float(self.predict(plan[None])[0][0]), loss))
        self.plans = np.vstack([self.plans, plan])
        self.losses = np.append(self.losses, loss)
        self._fit()

    @property
    def trust(self) -> float:
        """Rank correlation (Spearman) of the last predictions with what came of them; 0 while there are few."""
        guesses = np.array(self._guesses[-WINDOW:])
        if len(guesses) < 6:
            return 0.0
        ranks = guesses.argsort(axis=0).argsort(axis=0)
        return float(np.corrcoef(ranks.T)[0, 1])

    def predict(self, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected loss and its standard deviation, (n,) each."""
        features = self.features(plans)
        cross = self._kernel(features, self._known, self._settings)
        mean = self._trend(plans) + cross @ self._solved
        half = np.linalg.solve(self._root, cross.T)
        own = self._variance(features, self._settings)
        return mean, np.sqrt(np.maximum(own - (half**2).sum(axis=0), 1e-12)) * self._scale

    # -- the process -------------------------------------------------------------------------------------------------

    def _trend(self, plans: np.ndarray) -> np.ndarray:
        return self._slope[0] + self._slope[1] * self.damage[np.arange(plans.shape[1]), plans].sum(axis=1)

    @staticmethod
    def _kernel(a: np.ndarray, b: np.ndarray, settings: tuple[float, float, float]) -> np.ndarray:
        """(n, m): linear in each group's damage, and a smooth term over all groups."""
        additive, together, _ = settings
        square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2.0 * a @ b.T
        return additive * (a**2) @ (b**2).T + together * np.exp(-np.maximum(square, 0.0) / 0.5)

    @staticmethod
    def _variance(a: np.ndarray, settings: tuple[float, float, float]) -> np.ndarray:
        return settings[0] * (a**4).sum(axis=1) + settings[1]

    def _fit(self) -> None:
        losses = self.losses
        spread = 1.4826 * float(np.median(np.abs(losses - np.median(losses)))) + 1e-3
        losses = np.minimum(losses, losses.min() + WILD * spread)
        totals = self.damage[np.arange(self.plans.shape[1]), self.plans].sum(axis=1)
        # A line through the losses, drawn to "the loss is in proportion to the damage".
        prior = float(losses.mean() / max(totals.mean(), 1e-9))
        design = np.stack([np.ones(len(totals)), totals], axis=1)
        weight = np.diag([1.0, max(totals.mean(), 1e-9) ** 2])
        error = losses - prior * totals
        self._slope = np.array([0.0, prior]) + np.linalg.solve(weight + design.T @ design, design.T @ error)
        residual = losses - design @ self._slope
        self._scale = max(float(residual.std()), 1e-3)
        self._known = self.features(self.plans)
        if len(losses) >= 8 and (self._fitted == 0 or len(losses) >= 1.2 * self._fitted):
            grid = itertools.product((0.05, 0.3, 2.0), (0.05, 0.3, 1.0), (0.02, 0.1, 0.4))
            self._settings = max(grid, key=lambda settings: self._likelihood(residual / self._scale, settings))
            self._fitted = len(losses)
        self._root = self._cholesky(self._settings)
        inner = np.linalg.solve(self._root, residual)
        self._solved = np.linalg.solve(self._root.T, inner)

    def _cholesky(self, settings: tuple[float, float, float]) -> np.ndarray:
        covariance = self._kernel(self._known, self._known, settings)
        return np.linalg.cholesky(covariance + (settings[2] + JITTER) * np.eye(len(covariance)))

    def _likelihood(self, residual: np.ndarray, settings: tuple[float, float, float]) -> float:
        root = self._cholesky(settings)
        inner = np.linalg.solve(root, residual)
        return float(-0.5 * inner @ inner - np.log(np.diagonal(root)).sum())
