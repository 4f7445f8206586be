"""Names of layers that share what they have in common."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortrim.compressor.cli.names import fold

LAYERS = st.lists(st.text("ab01./_{,}", min_size=1, max_size=8), unique=True, max_size=12)


def shown(*names):
    return [str(alike) for alike in fold(names)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), []),
        (("conv1",), ["conv1"]),
        (("layer1.0.conv2", "layer1.1.conv2"), ["layer1.{0,1}.conv2"]),
        (("conv1", "conv2", "conv3"), ["conv{1..3}"]),
        (("conv1", "conv3", "conv5"), ["conv{1,3,5}"]),
        (("conv2", "conv1", "conv0"), ["conv{2,1,0}"]),
        (("conv08", "conv09", "conv10"), ["conv{08,09,10}"]),
        (("a/query/MatMul", "a/key/MatMul"), ["a/{query,key}/MatMul"]),
        # In two places, in the number of parts, in a separator: these do not differ in one word.
        (("layer1.0.conv1", "layer2.1.conv1"), ["layer1.0.conv1", "layer2.1.conv1"]),
        (("block.conv", "block.0.conv"), ["block.conv", "block.0.conv"]),
        (("a.b", "a/b"), ["a.b", "a/b"]),
        # A name goes to the first that it is like.
        (("a1", "b1", "a2", "b2"), ["{a,b}1", "{a,b}2"]),
        (("a{1}", "a{2}"), ["a{1}", "a{2}"]),
    ],
)
def test_what_differs_stands_in_braces(names, expected):
    assert shown(*names) == expected


@given(LAYERS)
def test_no_name_is_lost(names):
    folded = fold(names)
    assert sorted(name for alike in folded for name in alike) == sorted(names)
    assert sum(map(len, folded)) == len(names)


@given(LAYERS, st.integers(1, 30))
def test_lines_break_only_inside_braces(names, width):
    for alike in fold(names):
        lines = alike.lines(width)
        assert "".join(lines) == str(alike)
        assert all(line.endswith(",") for line in lines[:-1])
        assert all(len(line) <= width or not re.search(",.", line) or len(alike) == 1 for line in lines)
