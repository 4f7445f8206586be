"""What each width of a group costs after the correction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from .importance import Ranking

__all__ = ["Place", "repaired_damage"]

Place = tuple[str, int]
"""A group, and the width to which it alone is narrowed."""


def repaired_damage(
    errors: Callable[[Sequence[Place]], Sequence[float]],
    ranking: Ranking,
    widths: Mapping[str, Sequence[int]],
    *,
    points: int = 3,
    asked: Collection[str] | None = None,
) -> dict[str, dict[int, float]]:
    """Error of the outputs when one group alone is narrowed, after correction: group -> width -> error.

    Args:
        errors: of the nets of which one group is narrowed to a width, as by an `OutputDeviation` on samples that the
            corrector does not use. Asked once, for all places.
        ranking: its damage is the curve that fills in between the measured widths.
        widths: the widths of interest of each group.
        points: widths of a group that are measured, evenly spread, the narrowest among them; the middle one, where it
            is to be one: what is left at the very narrowest says little of the others.
        asked: groups that are measured; None is all. Of the others the curve counts, times what repair left of those
            that are measured (the median).
    """
    chosen = {
        name: _spread([w for w in sorted(of) if w < len(ranking.order[name])], points)
        for name, of in widths.items()
        if asked is None or name in asked
    }
    places = [(name, width) for name, measured in chosen.items() for width in measured]
    found = dict(zip(places, errors(places), strict=True))
    damage: dict[str, dict[int, float]] = {}
    left: list[float] = []
    for name, measured in chosen.items():
        size, curve = len(ranking.order[name]), ranking.damage.get(name, {})
        known = {width: found[name, width] for width in measured}
        damage[name] = {w: _between(w, size, known, curve) for w in {*widths[name], size}}
        left += [known[place] / curve[place] for place in measured if curve.get(place, 0.0) > 0]
    usual = float(np.median(left)) if left else 1.0
    for name in [name for name in widths if name not in damage]:
        curve = ranking.damage.get(name, {})
        damage[name] = {w: usual * curve.get(w, 0.0) for w in {*widths[name], len(ranking.order[name])}}
    return {name: damage[name] for name in widths}


def _spread(widths: Sequence[int], points: int) -> list[int]:
    if len(widths) <= points:
        return list(widths)
    if points == 1:
        return [widths[len(widths) // 2]]
    return [widths[round(place)] for place in np.linspace(0, len(widths) - 1, points)]


def _between(width: int, size: int, known: Mapping[int, float], curve: Mapping[int, float]) -> float:
    """The damage at a width from that at others: what of the unrepaired curve is left changes evenly in between."""
    if width == size or not known:
        return 0.0
    places = sorted(known)
    if all(curve.get(place, 0.0) > 0 for place in (*places, width)):
        shares = [known[place] / curve[place] for place in places]
        return float(np.interp(width, places, shares)) * curve[width]
    return float(np.interp(width, [*places, size], [*(known[place] for place in places), 0.0]))
