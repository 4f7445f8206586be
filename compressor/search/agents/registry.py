"""Agents by name. The built-in ones are imported when they are asked for, so that naming them does not import torch."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from ....errors import InputError
from ..space import Space
from .base import Agent

__all__ = ["create", "find", "names", "register"]

BUILT_IN = {
    "bocr": "bocr",
    "ddpg": "ddpg",
    "ddpg-guided": "ddpg_guided",
    "greedy": "greedy",
    "knapsack": "knapsack",
    "ortrim": "ortrim",
    "random": "random_search",
    "rl-pruner": "rl_pruner",
    "sac": "sac",
    "uniform": "uniform",
}
"""Name -> module of this package whose import registers it."""

_registered: dict[str, Callable[[Space, int, int], Agent]] = {}

Factory = TypeVar("Factory", bound=Callable[[Space, int, int], Agent])


def register(name: str) -> Callable[[Factory], Factory]:
    """Class decorator: makes an agent available as `--agent name`. It is called as `factory(space, episodes, seed)`.

    Raises:
        InputError: the name is taken.
    """

    def remember(factory: Factory) -> Factory:
        if _registered.setdefault(name, factory) is not factory:
            raise InputError(f"an agent named {name!r} is registered already; choose another name")
        return factory

    return remember


def names() -> tuple[str, ...]:
    """Every name that `create` knows, sorted."""
    return tuple(sorted({*BUILT_IN, *_registered}))


def find(name: str) -> Callable[[Space, int, int], Agent]:
    """The factory of an agent: one of `names()`, or `package.module:factory`, looked up in the current folder too.

    Raises:
        InputError: there is none.
    """
    if ":" in name:
        return _imported(name)
    if name not in names():
        raise InputError(
            f"unknown agent {name!r}; --agent takes package.module:factory or one of: {', '.join(names())}"
        )
    if name not in _registered:
        import_module(f".{BUILT_IN[name]}", __package__)
    return _registered[name]


def _imported(name: str) -> Callable[[Space, int, int], Agent]:
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    # A console script, unlike `python -m`, does not look for modules where the user stands.
    sys.path.insert(0, here)
    try:
        factory = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--agent {name}: {error}") from error
    finally:
        sys.path.remove(here)
    if not callable(factory) or not _takes_three(factory):
        raise InputError(f"--agent {name} is no factory: it must take a space, the number of episodes and a seed")
    return factory


def _takes_three(factory: Callable[..., object]) -> bool:
    try:
        inspect.signature(factory).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:  # of some that are built in nothing is known
        return True
    return True


def create(name: str, space: Space, episodes: int, seed: int) -> Agent:
    """A fresh agent for one search.

    Args:
        name: see `find`.
        space: choices, latency table and target.
        episodes: evaluations that the search has in all; schedules are scaled to it.
        seed: the same seed and the same outcomes give the same plans.

    Raises:
        InputError: no agent of that name, or no episodes.
        NothingToPruneError: the space has no choice.
    """
    factory = find(name)
    if episodes < 1:
        raise InputError(f"--episodes must be at least 1, got {episodes}")
    agent = factory(space, episodes, seed)
    if not isinstance(agent, Agent):
        raise InputError(f"--agent {name} made a {type(agent).__name__}, which is no Agent: it must ask and tell")
    return agent
