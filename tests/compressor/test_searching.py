"""What a resumed search takes over from its record."""

from types import SimpleNamespace

import pytest

from ortrim.compressor.precision import Scheme
from ortrim.compressor.searching import conversion_of


@pytest.mark.parametrize(
    ("kept", "scheme"),
    [
        ({"scheme": {"activations": "int8", "bits": 7}}, Scheme("int8", 7)),
        ({"activations": "int8"}, Scheme("int8", 8)),  # as earlier versions wrote it
    ],
)
def test_the_way_of_quantizing_is_that_of_the_record(residual, images, kept, scheme):
    calibration = SimpleNamespace(feeds=lambda: {"x": images})
    subject = SimpleNamespace(loaded=residual, images=SimpleNamespace(calibration=calibration))
    trials = SimpleNamespace(recall=lambda key: {"ratio": 0.4, **kept})
    found = conversion_of(SimpleNamespace(precision="int8"), subject, None, trials)
    assert (found.converter.scheme, found.ratio) == (scheme, 0.4)
