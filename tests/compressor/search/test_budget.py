"""What can still be chosen: the walls around a group's width."""

from collections.abc import Mapping

import pytest

from ortrim.compressor.search.budget import Budget
from ortrim.compressor.search.space import Choice, Space
from ortrim.errors import PlanError


class Shares:
    """Every unit of every group costs the same; a tenth of the latency is fixed."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.calls = 0

    def ratio(self, widths: Mapping[str, int]) -> float:
        self.calls += 1
        kept = sum(widths.get(name, size) for name, size in self.sizes.items())
        return 0.1 + 0.9 * kept / sum(self.sizes.values())


def space(target: float) -> Space:
    sizes = {"a": 10, "b": 10, "c": 10}
    choices = tuple(Choice(name, size, tuple(range(2, size + 1, 2)), {}) for name, size in sizes.items())
    return Space(choices, Shares(sizes), target)


def budget(target: float) -> Budget:
    return Budget(space(target), caution=0.0)


# ratio = 0.1 + 0.03 * units kept, so that 0.581 allows 16 units of 30, of which 6 must stay.
def test_walls_leave_room_for_the_narrowest_and_stop_where_the_target_is_met():
    assert budget(0.581).bounds(()) == (2, 10)
    assert budget(0.581).bounds((10,)) == (2, 4)
    assert budget(0.581).bounds((10, 4)) == (2, 2)
    assert budget(0.76).bounds((2,)) == (10, 10)
    assert budget(0.76).bounds((4,)) == (8, 10)
    assert budget(0.76).bounds((4,), lower=False) == (2, 10)


def test_walls_of_an_unreachable_target_are_the_narrowest_width():
    assert budget(0.2).bounds(()) == (2, 2)


def test_measurements_move_the_walls():
    tight = budget(0.581)
    for _ in range(20):
        tight.observe((10, 4, 2), 0.64)
    assert tight.bounds((8,)) == (2, 4)
    assert budget(0.581).bounds((8,)) == (2, 6)


def test_caution_keeps_a_distance():
    cautious = Budget(space(0.581), caution=0.5)
    assert budget(0.581).fits((10, 4, 2))
    assert not cautious.fits((10, 4, 2))
    assert cautious.fits((8, 4, 2))


def test_the_same_plan_is_looked_up_once():
    of = space(0.58)
    Budget(of).bounds((10,))
    walls = Budget(of)
    walls.bounds((10,))
    calls = of.latency.calls
    walls.bounds((10,))
    assert of.latency.calls == calls


def test_plans_and_rows_are_two_ways_to_say_the_same():
    of = space(0.58)
    assert of.row({"c": 4}) == (10, 10, 4)
    assert of.plan((10, 10, 4)) == {"a": 10, "b": 10, "c": 4}
    with pytest.raises(PlanError, match="'d'"):
        of.row({"d": 4})
    with pytest.raises(PlanError, match="11 units of group 'a'"):
        of.row({"a": 11})
