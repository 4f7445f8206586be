"""The damage that is left after corrections."""

import numpy as np
import pytest

from ortrim.compressor.recovery.correct import Corrector
from ortrim.compressor.recovery.deviation import OutputDeviation
from ortrim.compressor.recovery.importance import rank
from ortrim.compressor.recovery.moments import gather
from ortrim.compressor.recovery.repaired import repaired_damage
from ortrim.graph import analyze


@pytest.fixture(scope="module")
def tools(residual, images):
    analysis = analyze(residual)
    moments = gather(residual, analysis, images[:64])
    corrector = Corrector(residual, analysis, moments, images[:64], samples=48)
    return analysis, rank(residual, analysis, "refit", moments), corrector, OutputDeviation(residual, images[64:])


def test_groups_that_are_not_asked_for_are_as_well_repaired_as_others(residual, tools):
    analysis, ranking, *_ = tools
    first, *others = [group for group in analysis.groups if group.removable]
    widths = {group.name: (4, 8, group.size) for group in (first, *others)}
    asked = []

    def half_of_the_curve(places):
        asked.extend(places)
        return [ranking.damage[name][width] / 2 for name, width in places]

    damage = repaired_damage(half_of_the_curve, ranking, widths, points=1, asked={first.name})
    assert asked == [(first.name, 8)]  # the middle one: at the narrowest all is lost
    for group in others:
        assert damage[group.name][8] == pytest.approx(ranking.damage[group.name][8] / 2)
        assert damage[group.name][group.size] == 0


def test_damage_is_the_error_of_one_group(residual, tools):
    analysis, ranking, corrector, error = tools
    group = next(group for group in analysis.groups if group.removable)

    def narrowed(places):
        return [error(corrector(ranking.removal(dict([place])))) for place in places]

    damage = repaired_damage(narrowed, ranking, {group.name: [0, 4, 8, 12]}, points=3)
    assert damage[group.name][4] == pytest.approx(narrowed([(group.name, 4)])[0])
    assert damage[group.name][12] == 0
    assert damage[group.name][0] > damage[group.name][4] > damage[group.name][8] > 0


def test_widths_in_between_follow_the_unrepaired_curve(residual, tools):
    analysis, ranking, corrector, error = tools
    group = next(group for group in analysis.groups if group.removable)

    def narrowed(places):
        return [error(corrector(ranking.removal(dict([place])))) for place in places]

    (curve,) = repaired_damage(narrowed, ranking, {group.name: range(2, 13)}, points=2).values()
    measured = [curve[2], curve[11]]
    assert set(curve) == set(range(2, 13))
    assert all(measured[1] <= curve[width] <= measured[0] for width in range(2, 12))
    shares = {width: curve[width] / ranking.damage[group.name][width] for width in (2, 6, 11)}
    assert shares[6] == pytest.approx(np.interp(6, [2, 11], [shares[2], shares[11]]))
