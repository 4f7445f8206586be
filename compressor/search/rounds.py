"""How a search asks for several plans at a time. In one place, since a replay must ask as the search did."""

from __future__ import annotations

from typing import Protocol

__all__ = ["ask_round"]


class Asked(Protocol):
    """What is asked of an agent here."""

    def ask(self) -> dict[str, int]: ...

    @property
    def exhausted(self) -> bool: ...


def ask_round(agent: Asked, count: int, any_before: bool) -> list[dict[str, int]]:
    """Up to `count` plans to evaluate at a time.

    Fewer where the agent has nothing new before it is told what came of these: their outcomes correct the latency
    table, so that the next round may well find more. None where it has nothing new although it was told of all. The
    very first plan of a search is evaluated in any case.
    """
    plans: list[dict[str, int]] = []
    while len(plans) < count:
        plan = agent.ask()
        if agent.exhausted and (plans or any_before):
            break
        plans.append(plan)
    return plans
