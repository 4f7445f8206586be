"""A whole front in one search: one agent for each target, taking turns; each learns from every outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..past import Past
from ..space import Outcome, Space, Widths
from .base import Agent
from .registry import create

__all__ = ["Front"]


class Front(Agent):
    """Agents of one kind for several targets.

    What misses one target often meets another, and what is learned of a plan's score holds for all of them: so all
    outcomes are told to all agents.

    Args:
        name: of the agents.
        space: of the search; each agent sees it with a target of its own.
        targets: ratios, at least one.
        episodes: evaluations in all.
        seed: each agent gets one of its own, counted on from this.
    """

    def __init__(self, name: str, space: Space, targets: Sequence[float], episodes: int, seed: int) -> None:
        each = max(1, episodes // len(targets))
        self.agents = [
            create(name, replace(space, target=target), each, seed + number) for number, target in enumerate(targets)
        ]
        self._turn = 0

    def ask(self) -> dict[str, int]:
        plan: dict[str, int] = {}
        for _ in self.agents:
            agent = self.agents[self._turn]
            self._turn = (self._turn + 1) % len(self.agents)
            if not agent.exhausted:
                plan = agent.ask()
                if not agent.exhausted:
                    break
        # Where all are exhausted, any plan will do: it is not evaluated.
        return plan or self.agents[0].ask()

    def tell(self, plan: Widths, outcome: Outcome) -> None:
        for agent in self.agents:
            agent.tell(plan, outcome)

    def warm(self, past: Past) -> bool:
        used = [agent.warm(past) for agent in self.agents]
        return any(used)

    @property
    def exhausted(self) -> bool:
        return all(agent.exhausted for agent in self.agents)
