"""What the measured latency of whole nets says about the table: a line that is fitted again with every trial."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

__all__ = ["Correction"]

# Beliefs before the first measurement, as standard deviations, in shares of the original's latency: the table is off
# by about this much at the target, ...
SHIFT = 0.15
# ... by this much more for every unit further from it, ...
SLOPE = 0.3
# ... and a plan scatters around the line by this much (worth PRIOR_TRIALS measurements).
SCATTER = 0.015
PRIOR_TRIALS = 4
# Huber's constant: residuals beyond this many scatters count linearly (95 % efficiency under normal noise).
HUBER = 1.345


class Correction:
    """measured = predicted + shift + slope * (predicted - target), over the last `window` trials.

    A Bayesian line with Huber's weights (iteratively reweighted least squares): the prior is the identity, so that it
    changes nothing before the first trial; one wild measurement does not move it far once there are others.
    """

    def __init__(self, target: float, *, window: int = 64) -> None:
        self.target = target
        self.shift = 0.0
        self.slope = 0.0
        self.scatter = SCATTER
        """How far one plan lies off the line (robust standard deviation)."""
        self._pairs: deque[tuple[float, float]] = deque(maxlen=window)

    def observe(self, predicted: float, measured: float) -> None:
        """Learn from one plan's predicted and measured ratio. A failed measurement (not finite) is ignored."""
        if not (math.isfinite(predicted) and math.isfinite(measured)):
            return
        self._pairs.append((predicted, measured))
        self._fit()

    def corrected(self, predicted: float) -> float:
        """The ratio to expect from a measurement."""
        return predicted + self.shift + self.slope * (predicted - self.target)

    def _fit(self) -> None:
        pairs = np.array(self._pairs)
        design = np.stack([np.ones(len(pairs)), pairs[:, 0] - self.target], axis=1)
        error = pairs[:, 1] - pairs[:, 0]
        prior = np.diag([SHIFT**-2, SLOPE**-2])
        line, scatter = np.array([self.shift, self.slope]), self.scatter
        for _ in range(5):
            residual = np.abs(error - design @ line)
            weight = np.minimum(1.0, HUBER * scatter / np.maximum(residual, 1e-12)) / scatter**2
            line = np.linalg.solve(prior + (design.T * weight) @ design, design.T @ (weight * error))
            spread = 1.4826 * float(np.median(np.abs(error - design @ line)))
            known = PRIOR_TRIALS * SCATTER**2 + len(pairs) * spread**2
            scatter = math.sqrt(known / (PRIOR_TRIALS + len(pairs)))
        self.shift, self.slope, self.scatter = float(line[0]), float(line[1]), scatter
