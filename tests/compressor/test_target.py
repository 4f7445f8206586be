import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortrim.compressor.target import Target
from ortrim.errors import InputError


@pytest.mark.parametrize(
    ("text", "ratio", "milliseconds"),
    [
        ("0.6x", 0.6, None),
        (".5x", 0.5, None),
        (" 0.6 X ", 0.6, None),
        ("4.5ms", None, 4.5),
        ("4.5 ms", None, 4.5),
        ("12MS", None, 12.0),
        ("1e-1x", 0.1, None),
    ],
)
def test_parse(text, ratio, milliseconds):
    assert Target.parse(text) == Target(ratio, milliseconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "0.6",
        "x",
        "ms",
        "0x",
        "0ms",
        "-0.5x",
        "-3ms",
        "nanx",
        "infx",
        "inf ms",
        "1e999ms",
        "0.5xx",
        "0,5x",
        "٠x",
    ],
)
def test_nonsense_is_refused_with_the_accepted_forms(text):
    with pytest.raises(InputError, match=r"--latency.*0\.6x.*4\.5ms") as caught:
        Target.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["1x", "1.0x", "2.5x"])
def test_no_compression_is_refused(text):
    with pytest.raises(InputError, match="no faster"):
        Target.parse(text)


def test_a_target_is_a_share_or_milliseconds():
    with pytest.raises(InputError, match="one of the two"):
        Target()
    with pytest.raises(InputError, match="one of the two"):
        Target(0.5, 3.0)


@given(st.floats(1e-300, 1, exclude_max=True))
def test_ratios_round_trip(value):
    assert Target.parse(str(Target(ratio=value))) == Target(ratio=value)


@given(st.floats(1e-300, 1e300))
def test_milliseconds_round_trip(value):
    assert Target.parse(str(Target(milliseconds=value))) == Target(milliseconds=value)


def test_text_is_short():
    assert str(Target.parse("4.0ms")) == "4ms"
    assert str(Target.parse("0.60x")) == "0.6x"


def test_as_ratio():
    assert Target.parse("0.6x").as_ratio(10.0) == 0.6
    assert math.isclose(Target.parse("4ms").as_ratio(10.0), 0.4)


def test_milliseconds_that_are_met_already():
    with pytest.raises(InputError, match=r"--latency 4ms is met already: the original takes 3"):
        Target.parse("4ms").as_ratio(3.0)


@pytest.mark.parametrize(("text", "ratio", "met"), [("0.6x", 0.6, True), ("0.6x", 0.601, False), ("6ms", 0.6, True)])
def test_met_by(text, ratio, met):
    assert Target.parse(text).met_by(ratio, baseline_ms=10.0) is met
    assert Target.parse("5ms").met_by(0.6, baseline_ms=10.0) is False
