"""A net run piece by piece gives what the whole net gives, wherever what lies between the pieces is held."""

import logging

import numpy as np
import pytest
from onnx import numpy_helper

from ortrim.compressor.recovery import spill, tape
from ortrim.compressor.recovery.spill import Spill
from ortrim.compressor.recovery.tape import Tape


def weights(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture
def near(monkeypatch):
    """Everything is far enough to be written to disk."""
    monkeypatch.setattr(tape, "_FAR", 1)


@pytest.mark.parametrize(("memory", "far"), [(1024, 12), (0, 12), (0, 1)])
def test_a_tape_gives_what_the_whole_model_gives(residual, images, run, memory, far, monkeypatch):
    monkeypatch.setattr(tape, "_FAR", far)
    taped = Tape(residual, [{"x": images[:40]}, {"x": images[40:]}], memory=memory)
    for tensor in ("pa", "ps", "qr", "y"):
        whole = np.concatenate([values[tensor] for values in taped.read([tensor], taped.made(tensor))])
        np.testing.assert_allclose(whole, run(residual, images, tensor)[0], atol=1e-4)


def test_a_tape_runs_on_with_new_weights(residual, images, run):
    changed = weights(residual)["head"] * 2
    taped = Tape(residual, [{"x": images}])
    list(taped.read(["q"], taped.made("pooled")))
    taped.replace({"head": changed, "heads": weights(residual)["heads"] * 2})
    (values,) = taped.read(["y"])
    np.testing.assert_allclose(values["y"], 2 * run(residual, images, "y")[0], rtol=1e-3, atol=1e-4)


def test_a_tape_takes_values_as_given(residual, images, run):
    taped = Tape(residual, [{"x": images}])
    given = np.zeros((1, 8, 1, 1), np.float32)
    (values,) = taped.read(["ps"], taped.made("pc"), given={"pc": given})
    np.testing.assert_allclose(values["ps"], run(residual, images, "stem")[0], atol=1e-5)
    (values,) = taped.read(["ps"])
    np.testing.assert_allclose(values["ps"], run(residual, images, "ps")[0], atol=1e-4)


def test_what_memory_cannot_hold_runs_once_all_the_same(residual, images, near, monkeypatch):
    """Behind the frontier nothing is run again: not even the input is there any more."""
    monkeypatch.setattr(tape, "outputs_of", counted := Counted(tape.outputs_of))
    taped = Tape(residual, [{"x": images[:40]}, {"x": images[40:]}], memory=0)
    list(taped.read(["pa"], taped.made("ps")))
    list(taped.read(["ps"], taped.made("q")))
    first, second, *behind = counted.fed
    assert first == second == {"x"}
    assert len(behind) == 2
    assert all(fed and "x" not in fed for fed in behind)


class Counted:
    """Notes what sessions are fed."""

    def __init__(self, real):
        self.real, self.fed = real, []

    def __call__(self, session, names, values):
        self.fed.append({value.name for value in session.get_inputs()})
        return self.real(session, names, values)


def test_arrays_come_back_from_disk_as_they_went():
    rng = np.random.default_rng(0)
    batches = [
        {
            "image": rng.standard_normal((2, 3, 5)).astype(np.float32),
            "half": rng.standard_normal((4, 1)).astype(np.float16),
            "number": np.array(7, np.int64),
            "none": np.zeros((0, 3), np.float32),
            "across": rng.standard_normal((3, 4)).T,
        }
        for _ in range(3)
    ]
    place = Spill()
    kept = [place.keep(batch) for batch in batches]
    for batch, found in reversed(list(zip(batches, kept, strict=True))):
        assert list(found) == list(batch)
        assert "image" in found
        assert "other" not in found
        for name, array in batch.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype


@pytest.mark.parametrize("method", ["__init__", "keep"])
def test_a_full_disk_is_said_and_memory_taken(residual, images, run, near, monkeypatch, caplog, method):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spill.Spill, method, full)
    taped = Tape(residual, [{"x": images[:40]}, {"x": images[40:]}], memory=0)
    with caplog.at_level(logging.WARNING):
        list(taped.read(["pa"], taped.made("ps")))
    whole = np.concatenate([values["y"] for values in taped.read(["y"])])
    np.testing.assert_allclose(whole, run(residual, images, "y")[0], atol=1e-4)
    assert caplog.text.count("No space left on device") == 1
