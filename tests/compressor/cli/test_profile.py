"""`ortrim profile`: the steps of a device, measured once."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from ortrim.graph import analyze
from ortrim.models.digits import MODEL


@pytest.fixture
def profiled(ortrim):
    """`profiled(*args)`: the JSON of a profile of the demo model."""

    def run(*args):
        result = ortrim("profile", MODEL, "--json", *args)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.fixture
def small(profiled):
    """Two groups, or the tests would measure for long."""
    names = [group.name for group in analyze(MODEL).groups][:2]
    return names, [argument for name in names for argument in ("--group", name)]


def test_every_group_has_its_curve_and_its_steps(profiled, small):
    names, only = small
    found = profiled(*only)
    sizes = {group.name: group.size for group in analyze(MODEL).groups}
    assert [group["name"] for group in found["groups"]] == names
    for group in found["groups"]:
        widths = [int(width) for width in group["milliseconds"]]
        assert widths == sorted(widths)
        assert group["size"] == widths[-1] == sizes[group["name"]]
        assert set(group["steps"]) <= set(widths)
        assert group["steps"][-1] == group["size"]
        costs = [group["milliseconds"][str(step)] for step in group["steps"]]
        assert costs == sorted(costs)  # a step that costs as much as a wider one is none
        assert costs[-1] > 0
    assert found["layers_ms"] > 0
    assert found["device"]["spec"] == "cpu:threads=1"


def test_a_second_profile_costs_nothing(profiled, small):
    _, only = small
    profiled(*only)
    again = profiled(*only)
    assert again["measured"] == 0
    fresh = profiled(*only, "--no-cache")
    assert fresh["measured"] > 0


def test_the_table_and_the_picture(ortrim, place, small):
    names, only = small
    result = ortrim("profile", MODEL, *only, "--svg", "steps.svg")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in names)
    picture = ElementTree.fromstring((place / "steps.svg").read_bytes())
    drawn = [part.get("data-group") for part in picture.iter("{http://www.w3.org/2000/svg}g")]
    assert drawn == names


def test_what_is_refused(refused, place):
    assert "no group" in refused(2, "profile", MODEL, "--group", "nothing*")
    assert "fpga" in refused(2, "profile", MODEL, "--device", "fpga")
    (place / "mine.svg").write_text("mine")
    assert "exists already" in refused(2, "profile", MODEL, "--svg", "mine.svg")
