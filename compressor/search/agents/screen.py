"""Which of several candidates is worth a real evaluation: the assistant of Mu et al. (arXiv 2107.08815)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..budget import Row
from ..past import Past
from ..space import Outcome
from .assistant import Assistant
from .inherited import damage_weights, known_losses

if TYPE_CHECKING:
    from .base import BudgetAgent

__all__ = ["TRUSTED", "Screen"]

TRUSTED = 0.2
"""Rank correlation with real outcomes from which the assistant is followed."""


class Screen:
    """Chooses by an assistant, only while it ranks real outcomes well.

    Its hints are corrected by the history. Outcomes of earlier searches of the same groups are known to it, but what it
    is trusted for is predictions of this one's.
    """

    def __init__(self, agent: BudgetAgent, past: Past) -> None:
        self._planner = agent.planner
        self._known = agent.known
        self.assistant = Assistant(agent.planner.damage * damage_weights(past, agent.space.choices)[:, None])
        plans, losses = known_losses(past, agent.planner)
        if len(plans):
            self.assistant.inherit(plans, losses)

    def observe(self, row: Row, outcome: Outcome) -> None:
        """Learn what came of a plan."""
        if np.isfinite(outcome.ratio):
            self.assistant.observe(self._planner.index(row), 1.0 - outcome.score)

    def choose(self, rows: list[Row]) -> Row:
        """The most promising new plan, or simply the first while the assistant is not to be trusted."""
        new = [row for row in rows if row not in self._known]
        if len(new) < 2 or self.assistant.trust < TRUSTED:
            return (new or rows)[0]
        mean, deviation = self.assistant.predict(np.stack([self._planner.index(row) for row in new]))
        return new[int(np.argmin(mean - 0.5 * deviation))]
