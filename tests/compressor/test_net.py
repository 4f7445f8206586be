"""A net between two steps, in units of the original."""

import numpy as np
import pytest

from ortrim.compressor.net import Net
from ortrim.graph import analyze, slim


@pytest.fixture
def stepped(residual):
    """The residual net, and a step that took units out of a branch and out of the stream."""
    analysis = analyze(residual)
    branch = next(group for group in analysis.groups if group.size == 12)
    stream = next(group for group in analysis.groups if group.size == 8)
    first = {branch.name: (1, 5), stream.name: (0,)}
    small = slim(residual, first, analysis=analysis)
    return Net(small, analyze(small), residual, analysis, first), branch.name, stream.name


def test_units_are_those_of_the_original(stepped):
    net, branch, stream = stepped
    assert net.composable
    # What is left of the branch is 0 2 3 4 6 7 ..., of the stream 1 2 3 ...
    gone = net.in_original({branch: (0, 4), stream: (2,)})
    assert gone[branch] == (0, 1, 5, 6)
    assert gone[stream] == (0, 3)
    assert net.in_original({}) == net.gone


def test_two_steps_are_one(stepped, images, run):
    net, branch, stream = stepped
    second = {branch: (0, 4, 7), stream: (2, 3)}
    in_two = slim(net.model, second, analysis=net.analysis)
    at_once = slim(net.original, net.in_original(second), analysis=net.original_analysis)
    for a, b in zip(run(in_two, images, "y"), run(at_once, images, "y"), strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_widths_name_what_any_step_narrowed(stepped):
    net, branch, stream = stepped
    assert net.widths({branch: 4}) == {branch: 4, stream: 7}


def test_a_net_that_fell_apart_cannot_be_told(stepped):
    net, branch, _ = stepped
    assert not Net(net.model, net.analysis, net.original, net.original_analysis, {branch: (1,)}).composable
