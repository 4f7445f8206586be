"""Agents: one file an algorithm. `base` has the contract (`ask`, `tell`), `registry` the names.

>>> agent = create("ddpg", space, episodes=200, seed=0)
>>> for _ in range(200):
...     plan = agent.ask()
...     agent.tell(plan, evaluate(plan))
"""

from .base import Agent, BudgetAgent, replay
from .learner import LearnerAgent
from .registry import create, find, names, register

__all__ = ["Agent", "BudgetAgent", "LearnerAgent", "create", "find", "names", "register", "replay"]
