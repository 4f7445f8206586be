"""Groups whose channels are distributed alike, clustered: BOCR's way to a space of few dimensions.

Fan et al., "Bayesian Optimization with Clustering and Rollback for CNN Auto Pruning" (ECCV 2022, arXiv 2109.10591),
section 3.1: channels are scored by the sum of their absolute weights, the median of the layer is taken off, a Gaussian
kernel density estimate turns the scores into a curve, and the curves are clustered by Ward's linkage on L2 distances.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from ..space import Choice

__all__ = ["cluster", "densities"]

GRID = np.linspace(-15.0, 15.0, 1000)
"""Where the curves are compared."""
LEAST_BANDWIDTH = 3e-2
"""A grid step: narrower peaks would fall between its points."""


def densities(norms: Sequence[Sequence[float]]) -> np.ndarray:
    """Density curves (groups, grid) of each group's channel scores about their median.

    The bandwidth is Scott's. A group whose scores are not known is a peak at zero.
    """
    return np.stack([_density(np.asarray(scores if len(scores) else [0.0], dtype=float)) for scores in norms])


def _density(scores: np.ndarray) -> np.ndarray:
    about = scores - np.median(scores)
    bandwidth = max(float(about.std()) * len(about) ** -0.2, LEAST_BANDWIDTH)
    distances = (GRID[:, None] - about[None]) / bandwidth
    return np.exp(-0.5 * distances**2).mean(axis=1) / (bandwidth * np.sqrt(2.0 * np.pi))


def cluster(choices: Sequence[Choice], count: int) -> np.ndarray:
    """The cluster (groups,) of each choice, numbered from 0; at most `count` of them."""
    if len(choices) < 2 or count < 2:
        return np.zeros(len(choices), dtype=int)
    curves = densities([choice.norms for choice in choices])
    numbers = fcluster(linkage(curves, method="ward"), t=count, criterion="maxclust")
    return np.unique(numbers, return_inverse=True)[1]
