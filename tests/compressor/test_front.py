"""Where the nets of a front go."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ortrim.compressor.front import places, places_of


def front(least, count):
    return [least ** (n / count) for n in range(1, count + 1)]


def test_nets_are_named_after_their_targets():
    assert [path.name for path in places(Path("here/slim.onnx"), front(0.7, 2))] == ["slim_0.84x.onnx", "slim.onnx"]


@pytest.mark.parametrize("least", [0.9, 0.5, 0.99, 0.99999])
def test_no_two_nets_have_one_name(least):
    found = places(Path("slim.onnx"), front(least, 12))
    assert len(set(found)) == 12
    assert found[-1] == Path("slim.onnx")


def test_a_net_has_the_name_that_was_looked_at_beforehand_though_others_come_to_nothing():
    targets = front(0.9, 12)
    before = places(Path("slim.onnx"), targets)
    nets = [SimpleNamespace(target=targets[at]) for at in (0, 7, 11)]
    assert places_of(nets, Path("slim.onnx"), targets) == [before[0], before[7], before[11]]


def test_the_one_net_of_a_ladder_goes_to_the_output():
    assert places_of([SimpleNamespace(target=0.76)], Path("slim.onnx"), (0.9, 0.76, 0.6)) == [Path("slim.onnx")]
