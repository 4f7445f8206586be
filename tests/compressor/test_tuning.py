"""Which weights a job takes of fine-tuning."""

from types import SimpleNamespace

import onnx
import pytest

from ortrim.compressor import tuning
from ortrim.compressor.distill import Distilled, Settings
from ortrim.compressor.score import Score
from ortrim.compressor.sitting import Sitting

SMALL, TAUGHT = onnx.ModelProto(producer_name="small"), onnx.ModelProto(producer_name="taught")


def score(value):
    return Score(value=value, kind="agreement", detail="top-1", soft=value)


@pytest.fixture
def tuned(monkeypatch, tmp_path):
    """`tune` with a training that ends with given scores and marks: the model and the notes."""

    def tune(before, after, marks, min_score=None):
        found = Distilled(TAUGHT, score(before), score(after), marks, 1.0, 1.0, 10, 2.0, 5.0, (), False)
        monkeypatch.setattr(tuning, "distill", lambda *arguments, **named: found)
        job = SimpleNamespace(finetune=Settings(epochs=1), steps=1, seed=0, label_offset=0, min_score=min_score)
        subject = SimpleNamespace(loaded=None, images=SimpleNamespace(training=None), judge=None)
        sitting = Sitting(None)
        run = SimpleNamespace(checkpoint=tmp_path / "checkpoint.pt", refitted=tmp_path / "refitted.onnx")
        model = tuning.tune(job, subject, SMALL, run, sitting)
        assert onnx.load(run.refitted) == SMALL  # whatever is taken
        return model, sitting.notes

    return tune


def test_what_is_nearer_to_the_original_is_taken_though_its_score_fell(tuned):
    model, notes = tuned(0.98, 0.97, (0.90, 0.94))
    assert model is TAUGHT
    assert not notes


def test_but_not_below_the_least_score(tuned):
    model, notes = tuned(0.98, 0.97, (0.90, 0.94), min_score=0.975)
    assert model is SMALL
    assert "--min-score 0.975" in notes[0]
    # One that was below it before can only gain.
    assert tuned(0.96, 0.97, (0.90, 0.94), min_score=0.975)[0] is TAUGHT


def test_a_training_that_brought_nothing_is_said(tuned):
    _, notes = tuned(0.98, 0.98, (0.90, 0.90))
    assert notes == ["fine-tuning brought the net no nearer to the original: weights are the refit's"]
