"""What agents make of earlier searches: transitions to learn from, and what their outcomes say of the damage hints.

Mu et al., "Boosting the Convergence of Reinforcement Learning-based Auto-pruning Using Historical Data" (arXiv
2107.08815), gives the three ideas (transfer, augmented transfer, assistant); the paper's details were not at hand, so
that the mechanisms are ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..budget import Budget, Row
from ..past import Past, Source
from ..space import Choice
from .learning import Memory, in_spreads
from .planner import Planner, damage_curve

__all__ = ["Inherited", "damage_weights", "draw", "handed_down", "known_losses", "learn_latency"]

HANDED_DOWN = 4
"""Plans of earlier searches that are tried first."""
KNOWN = 40
"""Outcomes of each earlier search that an assistant learns."""
MEASURED = 12
"""Latencies of each earlier search that correct the table: few, since the device may have changed its mind since."""

_SAME_LATENCY = ("memory", "target", "images", "weights")
"""Relations in which a plan takes as long as it did."""
_WILD = 6.0
"""Losses further above the best than this many spreads say nothing of single groups."""
_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_FEATURE_RIDGE = 3.0
_MOST = 4.0
"""Hints are corrected by this factor at most."""


class Inherited:
    """The transitions of earlier searches, rewards in spreads of their own search.

    Args:
        context: appended to every state.
    """

    def __init__(self, past: Past, cutoff: float, context: np.ndarray | None = None) -> None:
        states, after, actions, rewards, final = [], [], [], [], []
        for source in past.sources:
            values = source.rewards()
            scaled = in_spreads(values[:, None], values.tolist(), cutoff)[:, 0]
            for trial, value in zip(source.trials, scaled, strict=True):
                walked, taken = source.states(trial), source.actions(trial)
                states.append(walked[:-1])
                after.append(walked[1:])
                actions.append(taken[:, None])
                rewards.append(np.full((len(taken), 1), value, np.float32))
                final.append(np.eye(len(taken), dtype=np.float32)[-1][:, None])
        more = np.zeros(0, np.float32) if context is None else context
        self._states, self._after = (_with(np.concatenate(part), more) for part in (states, after))
        self._actions, self._rewards, self._final = (np.concatenate(part) for part in (actions, rewards, final))

    def sample(self, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """`batch` transitions (state, action, reward, next state, final), with replacement."""
        at = rng.integers(0, len(self._states), size=batch)
        return self._states[at], self._actions[at], self._rewards[at], self._after[at], self._final[at]


def _with(states: np.ndarray, context: np.ndarray) -> np.ndarray:
    return np.concatenate([states, np.broadcast_to(context, (len(states), len(context)))], axis=1)


def draw(
    batch: int,
    own: Memory,
    scaled: Callable[[np.ndarray], np.ndarray],
    inherited: Inherited | None,
    progress: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, ...]:
    """A batch of transitions (state, action, reward in spreads, next state, final) of a search and of earlier ones.

    Args:
        scaled: brings the search's own rewards (n, 1) into spreads.
        inherited: of earlier searches; None where there are none.
        progress: share of the search that is done. Nothing of its own is there at 0, so all comes from earlier ones;
            then it is half, and nothing from the middle of the search on.
    """
    old = 0
    if inherited is not None:
        old = batch if progress <= 0 else round(batch * max(0.0, 0.5 - progress))
    parts = [inherited.sample(old, rng)] if inherited is not None and old else []
    if old < batch:
        states, actions, rewards, after, final = own.sample(batch - old, rng)
        parts.append((states, actions, scaled(rewards), after, final))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def handed_down(past: Past, planner: Planner) -> list[Row]:
    """The best plans of earlier searches of the same groups, brought to the budget; the best of the nearest last."""
    rows: list[Row] = []
    free = np.ones(len(planner.last), dtype=bool)
    for source in past.sources:
        if source.same_groups(planner.budget.space.choices):
            for at in np.argsort(source.rewards())[::-1][:HANDED_DOWN]:
                row = planner.settle(planner.index(source.trials[at].row), planner.rates, free)
                if row not in rows:
                    rows.insert(0, row)
    return rows[-HANDED_DOWN:]


def learn_latency(past: Past, budget: Budget) -> None:
    """Correct a budget's table by what earlier searches measured of the same net on the same device.

    Without, the first plans of a search miss the target by as much as the table is off there.
    """
    for source in past.sources:
        if source.relation in _SAME_LATENCY:
            for at in np.argsort(source.rewards())[::-1][:MEASURED]:
                trial = source.trials[at]
                budget.correction.observe(trial.ahead[-1][0], trial.outcome.ratio)


def known_losses(past: Past, planner: Planner) -> tuple[np.ndarray, np.ndarray]:
    """Plans (n, groups), as indices, and losses (n,) of earlier searches of the same groups; n may be 0."""
    plans, losses = [], []
    for source in past.sources:
        if source.same_groups(planner.budget.space.choices):
            order = np.argsort(source.rewards())[::-1]
            # Good ones and others: what to avoid is worth knowing too.
            for at in order[:: max(1, len(order) // KNOWN)]:
                plans.append(planner.index(source.trials[at].row))
                losses.append(1.0 - source.trials[at].outcome.score)
    return np.array(plans, dtype=int).reshape(len(plans), len(planner.last)), np.array(losses)


def damage_weights(past: Past, choices: tuple[Choice, ...]) -> np.ndarray:
    """By how much each group's damage hint is to be multiplied (groups,), as far as earlier searches tell.

    In each earlier search the losses are regressed on the damage hints of the groups: groups that cost more than their
    hint get a weight above one. A second regression says which *kinds* of groups those are (where in the net, how
    large, how slow), so that it can be asked about a net that was never searched. Where the groups are the same, their
    own weights count as well.
    """
    facts, wanted, weights = [], [], []
    own: list[np.ndarray] = []
    for source in past.sources:
        found, energy = _excess(source)
        facts.append(_facts(source.choices))
        wanted.append(found)
        weights.append(energy / max(float(energy.sum()), 1e-12))
        if source.same_groups(choices):
            own.append(found)
    design, target, weight = np.concatenate(facts), np.concatenate(wanted), np.concatenate(weights)
    weight = weight * len(weight)
    prior = np.eye(design.shape[1]) * _FEATURE_RIDGE
    prior[0, 0] = 1e-3
    line = np.linalg.solve(prior + (design.T * weight) @ design, design.T @ (weight * target))
    guess = _facts(choices) @ line
    if own:
        guess = np.mean([guess, *own, *own], axis=0)
    guess = guess - guess.mean()
    return np.exp(np.clip(guess, -np.log(_MOST), np.log(_MOST)))


def _excess(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of what each group cost over its hint (groups,), and how much the trials say of it (groups,)."""
    curves = [dict(zip(c.widths, damage_curve(c, source.damage), strict=True)) for c in source.choices]
    # Plans from elsewhere may have widths that are not offered.
    damage = np.array(
        [
            [np.interp(width, list(of), list(of.values())) for width, of in zip(trial.row, curves, strict=True)]
            for trial in source.trials
        ]
    )
    loss = 1.0 - np.array([trial.outcome.score for trial in source.trials])
    spread = 1.4826 * float(np.median(np.abs(loss - np.median(loss)))) + 1e-3
    tame = loss <= loss.min() + _WILD * spread
    damage, loss = damage[tame], loss[tame]
    damage = damage / max(float(damage.sum(axis=1).mean()), 1e-12)
    scale = max(float(np.median(loss)), 1e-6)
    error = loss / scale - damage.sum(axis=1)
    # What all plans have in common is no group's fault.
    centred = damage - damage.mean(axis=0)
    error = error - error.mean()
    size = float((centred**2).sum(axis=0).mean()) + 1e-12
    excess = _ridge(centred / np.sqrt(size), error) / np.sqrt(size)
    return np.log(np.clip(1.0 + excess, 1.0 / _MOST, _MOST)), (centred**2).sum(axis=0)


def _ridge(design: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Ridge regression, the ridge by leaving each row out in turn (in closed form)."""
    best, least = np.zeros(design.shape[1]), np.inf
    gram, side = design.T @ design, design.T @ wanted
    for ridge in _RIDGES:
        inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
        solution = inverse @ side
        leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
        missed = (wanted - design @ solution) / np.maximum(1.0 - leverage, 1e-3)
        error = float((missed**2).mean())
        if error < least:
            best, least = solution, error
    return best


def _facts(choices: tuple[Choice, ...]) -> np.ndarray:
    """What kind of group each is (groups, entries), within its net: the same for a deep and for a shallow one."""
    place = np.arange(len(choices)) / max(1, len(choices) - 1)
    columns = [np.ones(len(choices)), place - 0.5, (place - 0.5) ** 2]
    for name in ("latency", "damage", "macs", "layers"):
        value = np.log(np.maximum([choice.features.get(name, 0.0) for choice in choices], 1e-6))
        columns.append((value - value.mean()) / (value.std() + 1e-3))
    size = np.log([choice.size for choice in choices])
    columns.append((size - size.mean()) / (size.std() + 1e-3))
    columns.append(np.array([float(choice.widths[0] == 0) for choice in choices]) - 0.5)
    return np.stack(columns, axis=1)
