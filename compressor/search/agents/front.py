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
    outcomes are told to all agents. Each counts what it asked for itself, which is its share of the evaluations. One
    with nothing new loses its turn, but no more than that: it is asked again when more was told, since the table has
    moved.

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
        self._told = 0
        self._asked_at = [-1] * len(self.agents)
        """How much was told when each agent was last asked."""

    def ask(self) -> dict[str, int]:
        plan: dict[str, int] = {}
        for _ in self.agents:
            turn, self._turn = self._turn, (self._turn + 1) % len(self.agents)
            agent = self.agents[turn]
            if agent.exhausted and self._asked_at[turn] == self._told:
                continue
            self._asked_at[turn] = self._told
            plan = agent.ask()
            if not agent.exhausted:
                break
        # Where all are exhausted, any plan will do: it is not evaluated.
        return plan or self.agents[0].ask()

    def tell(self, plan: Widths, outcome: Outcome) -> None:
        self._told += 1
        for agent in self.agents:
            agent.tell(plan, outcome)

    def warm(self, past: Past) -> bool:
        used = [agent.warm(past) for agent in self.agents]
        return any(used)

    @property
    def exhausted(self) -> bool:
        # `ask` gives up only after every agent was asked since the last outcome.
        return all(agent.exhausted for agent in self.agents)
