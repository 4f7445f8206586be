"""A Gaussian process and expected improvement, by botorch: the next point of a Bayesian optimisation.

Jones et al., "Efficient Global Optimization of Expensive Black-Box Functions" (1998); the acquisition is maximised in
its logarithm (Ament et al., "Unexpected Improvements to Expected Improvement", NeurIPS 2023): the same maximum.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.exceptions.warnings import BotorchWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from gpytorch.mlls import ExactMarginalLogLikelihood
from linear_operator.utils.warnings import NumericalWarning

__all__ = ["propose", "sobol"]

RESTARTS, RAW = 4, 128
STEPS = 60
"""Of L-BFGS, for the process and for each restart of the acquisition."""


def sobol(dimensions: int, number: int, seed: int) -> np.ndarray:
    """The `number`-th point (dimensions,) of a scrambled Sobol sequence in the unit cube, counted from 1."""
    return torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=seed).draw(number)[-1].double().numpy()


def propose(points: np.ndarray, values: np.ndarray, *, jitter: float, seed: int) -> np.ndarray:
    """The point (dimensions,) of the unit cube with the most expected improvement over the best value.

    Args:
        points: (n, dimensions), what was tried; may lie outside the cube.
        values: (n,), what came of it; more is better.
        jitter: what is to be improved on is the best value plus this.
        seed: of the acquisition's starting points; the global generator of torch is left as it was.
    """
    dimensions = points.shape[1]
    known = torch.as_tensor(points, dtype=torch.double)
    scored = torch.as_tensor(values, dtype=torch.double)[:, None]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", BotorchWarning)
        warnings.simplefilter("ignore", NumericalWarning)
        torch.manual_seed(seed)
        model = SingleTaskGP(known, scored, outcome_transform=Standardize(m=1))
        fit_gpytorch_mll(
            ExactMarginalLogLikelihood(model.likelihood, model), optimizer_kwargs={"options": {"maxiter": STEPS}}
        )
        point, _ = optimize_acqf(
            LogExpectedImprovement(model, best_f=float(scored.max()) + jitter),
            bounds=torch.stack([torch.zeros(dimensions), torch.ones(dimensions)]).double(),
            q=1,
            num_restarts=RESTARTS,
            raw_samples=RAW,
            options={"maxiter": STEPS, "seed": seed},
        )
    return point[0].numpy()
