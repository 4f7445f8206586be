"""The regulariser that draws the weights to the sub-network that the agent has chosen.

sum over layers of ||(1 - v) W[out]||_2 + ||(1 - v) W[in]||_2 (RLAL; the form is that of a reproduction), where v is 1
for channels that stay: norms of the filters that make channels which are to go, and of the weights that read them. As
in a group lasso the norms are not squared, so that the pull does not fade as the weights become small.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...graph import Role
from ...graph.torch_module import OnnxModule
from .masks import Masks, Removal

__all__ = ["Alignment"]


class Alignment:
    """Of one module to one choice of channels."""

    def __init__(self, masks: Masks, module: OnnxModule, removal: Removal) -> None:
        self._values = module.initializers
        self._cuts = [
            cut
            for cut in masks.cuts(removal, (Role.PRODUCER, Role.CONSUMER))
            if isinstance(self._values[cut.tensor], torch.nn.Parameter) and self._values[cut.tensor].ndim >= 2
        ]

    def penalty(self) -> Tensor:
        """The sum of norms, a scalar with gradients: 0 outside the channels that are to go, and where they are 0."""
        norms = [
            torch.linalg.vector_norm(self._values[cut.tensor].index_select(cut.axis, cut.gone)) for cut in self._cuts
        ]
        return torch.stack(norms).sum() if norms else torch.zeros(())
