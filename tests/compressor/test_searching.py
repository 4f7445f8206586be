"""What a resumed search takes over from its record."""

import json
from types import SimpleNamespace

import pytest

from ortrim.compressor.precision import Scheme
from ortrim.compressor.search.evaluation import Searched
from ortrim.compressor.search.meter import Quick
from ortrim.compressor.search.trials import Trials
from ortrim.compressor.searching import Found, conversion_of
from ortrim.errors import TargetError


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
    assert (found.converter.scheme, found.ratio, found.ratios) == (scheme, 0.4, (0.4,))


def test_each_device_has_a_conversion_of_its_own(residual, images):
    """The worst device's ratio decides; each device's prediction goes by its own, not scaled."""
    kept = {}
    subject = SimpleNamespace(
        loaded=residual, images=SimpleNamespace(calibration=SimpleNamespace(feeds=lambda: {"x": images}))
    )
    trials = SimpleNamespace(recall=kept.get, record=kept.__setitem__)
    meter = SimpleNamespace(quick=lambda plan, model: Quick(0.75, 0.7, 0.8, 1.0, 1.0, {}, (0.4, 0.3)))
    job = SimpleNamespace(precision="int8")
    found = conversion_of(job, subject, meter, trials)
    assert (found.ratio, found.ratios) == (0.75, (0.4, 0.3))
    assert conversion_of(job, subject, None, SimpleNamespace(recall=json.loads(json.dumps(kept)).get)) == found


def test_failed_candidates_are_no_finalists(tmp_path):
    with Trials.create(tmp_path / "trials.sqlite") as trials:
        trials.add_failed({"a": 4}, 1.0)
        found = Found(SimpleNamespace(trials=trials), None, Searched(0.0, False), 0.0)
        with pytest.raises(TargetError, match="before its first candidate"):
            next(found.finalists(0.5))
