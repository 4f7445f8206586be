"""Cheaper operators are taken where they are measured to be faster, once for a run."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ortrim.compressor import equivalent
from ortrim.compressor.search.meter import Quick
from ortrim.compressor.subject import Subject
from ortrim.errors import DeviceError
from ortrim.graph import analyze

JOB = SimpleNamespace(precision="fp32", devices=("cpu",), keep=())


class Meter:
    """Gives ratios by whether a model has an operator that costs much; a text is an error."""

    def __init__(self, given, cheaper):
        self.given, self.cheaper, self.asked, self.checked, self.closed = given, cheaper, 0, 0, 0

    def quick(self, plan, model):
        self.asked += 1
        dear = any(node.op_type in ("PRelu", "SpaceToDepth") for node in model.graph.node)
        found = self.given if dear else self.cheaper
        if isinstance(found, str):
            raise DeviceError(found)
        return Quick(found, found, found, 1.0, found)

    def check(self):
        self.checked += 1

    def close(self):
        self.closed += 1


class Trials(dict):
    recall, record = dict.get, dict.__setitem__


def subject_of(model):
    images = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
    calibration = SimpleNamespace(feeds=lambda: {"x": images})
    analysis = analyze(model)
    return Subject(model, model, model, analysis, analysis.groups, SimpleNamespace(calibration=calibration), None, None)


@pytest.fixture
def subject(build):
    text = """g (float[N,3,8,8] x) => (float[N,5] y) {
        a = Conv<pads=[1,1,1,1]>(x, w, b)
        r = PRelu(a, s)
        flat = GlobalAveragePool(r)
        pooled = Flatten(flat)
        y = Gemm<transB=1>(pooled, f, g)
    }"""
    return subject_of(build(text, {"w": (6, 3, 3, 3), "b": (6,), "s": (6, 1, 1), "f": (5, 6), "g": (5,)}))


@pytest.fixture
def ask(subject, monkeypatch):
    """What becomes of the subject with a meter; notes are kept in `said`."""
    said = []

    def asked(meter, trials, *, begun=False, net=subject):
        monkeypatch.setattr(equivalent, "meter_of", lambda *_: meter)
        found = equivalent.in_cheaper_operators(JOB, net, trials, SimpleNamespace(note=said.append), begun=begun)
        return found, said

    return asked


def test_what_is_faster_is_taken_and_said(ask, subject):
    meter, trials = Meter(1.0, 0.8), Trials()
    found, said = ask(meter, trials)
    assert [node.op_type for node in found.loaded.graph.node[:3]] == ["Conv", "Mul", "Max"]
    assert found.given is subject.loaded
    assert found.in_cheaper_operators
    assert [group.name for group in found.groups] == [group.name for group in subject.groups]
    assert said == [
        "1 PRelu as 1 Mul, 1 Max, which computes the same and is faster here: "
        "0.80x for 1.00x before anything is removed"
    ]
    assert meter.closed == 1


def test_what_goes_without_anything_in_its_place_is_said(ask, build):
    text = """g (float[N,3,8,8] x) => (float[N,2,4,4] y) {
        p = SpaceToDepth<blocksize=2>(x)
        a = Conv<pads=[1,1,1,1]>(p, w, b)
        y = Conv(a, v, c)
    }"""
    net = subject_of(build(text, {"w": (6, 12, 3, 3), "b": (6,), "v": (2, 6, 1, 1), "c": (2,)}))
    found, (note,) = ask(Meter(1.0, 0.9), Trials(), net=net)
    assert [node.op_type for node in found.loaded.graph.node] == ["Conv", "Conv"]
    assert note.startswith("without 1 SpaceToDepth, which computes the same and is faster here")


@pytest.mark.parametrize(("given", "cheaper"), [(1.0, 1.3), (1.0, 0.99), (0.5, 0.495)])
def test_what_is_no_faster_than_measurements_are_certain_is_left(ask, subject, given, cheaper):
    trials = Trials()
    found, said = ask(Meter(given, cheaper), trials)
    assert found is subject
    assert not said
    assert trials[equivalent.EQUIVALENT]["taken"] is False


def test_it_is_found_out_once(ask):
    trials = Trials()
    first, _ = ask(Meter(1.0, 0.8), trials)
    again, said = ask(None, trials, begun=True)
    assert again.loaded == first.loaded
    assert said[0] == said[1]


def test_a_run_of_an_earlier_version_goes_on_as_it_began(ask, subject):
    trials = Trials()
    found, _ = ask(None, trials, begun=True)
    assert found is subject
    assert not trials


def test_what_the_device_cannot_run_is_left_and_the_device_asked_for(ask, subject):
    meter = Meter(1.0, "no Max\nhere")
    found, _ = ask(meter, Trials())
    assert found is subject
    assert (meter.checked, meter.closed) == (1, 1)


def test_what_computes_something_else_is_left_unmeasured(ask, subject, monkeypatch):
    wrong = subject.loaded.__class__.FromString(subject.loaded.SerializeToString())
    wrong.graph.node[1].op_type = "Mul"
    monkeypatch.setattr(equivalent.graph, "reduce_strength", lambda model: wrong)
    meter = Meter(1.0, 0.5)
    found, _ = ask(meter, Trials())
    assert found is subject
    assert meter.asked == 0


def test_without_anything_to_replace_no_device_is_opened(ask, subject, residual):
    plain = replace(subject, loaded=residual)
    found, _ = ask(None, Trials(), net=plain)
    assert found is plain
