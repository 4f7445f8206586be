"""A made-up net to search: staircase latency, damage with interactions, a table and hints that are both off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from ortrim.compressor.search.space import Choice, Outcome, Space


class Layers:
    """Latency of a chain of layers: layer i reads group i - 1 and makes group i, in blocks of 4 and 16 channels."""

    def __init__(self, names: list[str], sizes: list[int], costs: np.ndarray, fixed: float) -> None:
        self.names, self.sizes, self.costs, self.fixed = names, sizes, costs, fixed
        self.whole = self._sum(sizes)

    def _sum(self, widths: list[int]) -> float:
        blocks = [
            (-(-before // 4), -(-after // 16)) for before, after in zip([16, *widths], [*widths, 16], strict=True)
        ]
        return self.fixed + sum(cost * before * after for cost, (before, after) in zip(self.costs, blocks, strict=True))

    def ratio(self, widths: Mapping[str, int]) -> float:
        kept = [widths.get(name, size) for name, size in zip(self.names, self.sizes, strict=True)]
        return self._sum(kept) / self.whole


@dataclass
class Problem:
    """A space and the truth about it."""

    space: Space
    truth: Layers
    bias: float
    damage: np.ndarray
    power: np.ndarray
    noise: np.random.Generator

    def true_ratio(self, plan: Mapping[str, int]) -> float:
        """What a quiet machine would measure: the table's layers, each off by some, and all by `bias` of the saving."""
        return 1.0 - (1.0 - self.truth.ratio(plan)) * self.bias

    def true_score(self, plan: Mapping[str, int]) -> float:
        """1 less the damage of each group and of neighbours that are both cut."""
        cut = np.array([1.0 - plan[choice.group] / choice.size for choice in self.space.choices])
        own = self.damage * cut**self.power
        both = np.sqrt(own[:-1] * own[1:])
        return float(np.exp(-own.sum() - 1.5 * both.sum()))

    def evaluate(self, plan: Mapping[str, int]) -> Outcome:
        """One noisy evaluation."""
        ratio = self.true_ratio(plan) * (1.0 + 0.007 * self.noise.normal())
        return Outcome(float(np.clip(self.true_score(plan) + 0.003 * self.noise.normal(), 0.0, 1.0)), float(ratio))


def build(
    seed: int = 0, groups: int = 30, target: float = 0.65, bias: float = 0.8, hints: float | None = 0.6
) -> Problem:
    """A problem whose table promises 1 / `bias` times the true saving; `hints`: error of the damage hints, or none."""
    rng = np.random.default_rng([seed, 71])
    names = [f"group{i}" for i in range(groups)]
    sizes = [(32, 48, 64)[3 * i // groups] for i in range(groups)]
    costs = rng.lognormal(sigma=0.3, size=groups + 1) / np.repeat([1.0, 2.0, 3.0], -(-(groups + 1) // 3))[: groups + 1]
    fixed = 0.1 * float(np.sum(costs)) * 20
    damage = 0.05 * rng.lognormal(sigma=1.0, size=groups)
    power = rng.uniform(1.2, 2.5, size=groups)
    table = Layers(names, sizes, costs * rng.lognormal(sigma=0.1, size=groups + 1), fixed)
    wrong = np.ones(groups) if hints is None else rng.lognormal(sigma=hints, size=groups)

    choices, hinted = [], {}
    for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
        widths = tuple(range(0 if i % 4 == 3 else 8, size + 1, 8))
        features = {"c_in": float(sizes[max(i - 1, 0)]), "c_out": float(size), "kernel": 3.0, "stride": 1.0}
        choices.append(Choice(name, size, widths, features))
        hinted[name] = {w: float(wrong[i] * damage[i] * (1 - w / size) ** power[i]) for w in widths}
    space = Space(tuple(choices), table, target, hinted if hints is not None else {})
    return Problem(space, Layers(names, sizes, costs, fixed), bias, damage, power, np.random.default_rng([seed, 72]))


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """Factory of problems: `problem(seed, groups=..., target=..., bias=..., hints=...)`."""
    return build
