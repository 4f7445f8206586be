"""The original teaches a slim net: what rises, what stays, and that a kill costs nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from ortrim.compressor.data import InputSpec, Preprocessing, load_data
from ortrim.compressor.data.dataset import Dataset, TensorColumn
from ortrim.compressor.distill import Settings, distill, learner, schedule, trainer
from ortrim.compressor.distill.lessons import Lessons
from ortrim.compressor.distill.memory import saved_bytes
from ortrim.compressor.recovery import rank
from ortrim.compressor.score import Marked, Score, Scorer
from ortrim.errors import InputError, RunError
from ortrim.graph import analyze, load, slim, to_torch
from ortrim.models import digits

QUICK = Settings(epochs=3, batch=64, rate=0.03, evaluations=3)


@pytest.fixture(scope="module")
def taught():
    """The digits net as the teacher, a thin one without any recovery, training and held-out images."""
    teacher = load(digits.MODEL)
    analysis = analyze(teacher)
    ranking = rank(teacher, analysis, "l2")
    widths = {group.name: max(1, round(0.6 * group.size)) for group in analysis.groups}
    student = slim(teacher, ranking.removal(widths), analysis=analysis)
    dataset = load_data(digits.TRAIN, InputSpec.from_model(teacher), Preprocessing())
    order = np.random.default_rng(0).permutation(len(dataset))
    held, training = dataset.subset(order[:300]), dataset.subset(order[300:1100])
    return teacher, student, training, Scorer.build(teacher, held.unlabelled())


def weights(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_agreement_rises_and_only_weights_change(taught):
    teacher, student, training, scorer = taught
    found = distill(teacher, student, training.unlabelled(), scorer, QUICK)
    assert found.improved
    assert found.after.value > found.before.value + 0.1
    assert scorer.score(found.model).value == found.after.value
    before, after = onnx.ModelProto.FromString(student.SerializeToString()), found.model
    assert any(not np.array_equal(a, weights(after)[name]) for name, a in weights(before).items())
    assert {name: (a.shape, a.dtype) for name, a in weights(before).items()} == {
        name: (a.shape, a.dtype) for name, a in weights(after).items()
    }
    assert list(before.graph.node) == list(after.graph.node)
    assert found.epochs == pytest.approx(3)
    assert len(found.history) == 3


def test_a_student_that_is_perfect_is_left_as_it_is(taught):
    teacher, _, training, scorer = taught
    found = distill(teacher, teacher, training, scorer, Settings(epochs=0.5, batch=64, evaluations=1))
    assert not found.improved
    assert found.model.SerializeToString() == teacher.SerializeToString()


def test_a_step_holds_as_many_images_as_its_memory(taught, monkeypatch):
    teacher, student, training, scorer = taught
    one = saved_bytes(to_torch(student), {student.graph.input[0].name: torch.zeros(1, 1, 8, 8)})
    monkeypatch.setitem(learner.STEP_MEMORY, "cpu", 20 * one)
    settings = Settings(epochs=3, batch=64, rate=0.1, evaluations=2)
    found = distill(teacher, student, training.unlabelled(), scorer, settings)
    assert found.steps == 3 * (len(training) // 20)
    assert found.improved
    assert "20 images instead of 64" in found.notes[0]


class Fragile(schedule.Ceiling):
    """As of a student that stands no rate at all, which shows after its third step."""

    def told(self, loss, rate, done):
        self._first.append(loss)
        self.anew = len(self._first) == 3
        if self.anew:
            self.most = 1e-30


def test_a_student_that_begins_anew_has_its_own_weights(taught, monkeypatch):
    teacher, student, training, scorer = taught
    monkeypatch.setattr(trainer, "Ceiling", Fragile)
    settings = Settings(epochs=0.5, batch=64, evaluations=6)
    found = distill(teacher, student, training.unlabelled(), scorer, settings)
    marks = [mark for _, mark in found.history]
    assert marks[0] != found.marks[0]
    assert marks[-1] == pytest.approx(found.marks[0])


def test_the_same_seed_gives_the_same_weights(taught):
    teacher, student, training, scorer = taught
    one, two, other = (
        weights(distill(teacher, student, training, scorer, Settings(epochs=0.5, batch=64), seed=seed).model)
        for seed in (0, 0, 1)
    )
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_going_on_after_a_kill_ends_in_the_same_weights(taught, tmp_path):
    teacher, student, training, scorer = taught
    straight = distill(teacher, student, training, scorer, QUICK)
    kept = tmp_path / "checkpoint.pt"

    class KilledError(Exception):
        pass

    def kill(stand):
        if stand.score is not None and kept.exists() and stand.done > 0.5:
            raise KilledError

    with pytest.raises(KilledError):
        distill(teacher, student, training, scorer, QUICK, checkpoint=kept, progress=kill)
    steps = []
    found = distill(
        teacher, student, training, scorer, QUICK, checkpoint=kept, progress=lambda stand: steps.append(stand.step)
    )
    assert min(steps) > 0.5 * found.steps
    assert found.history == straight.history
    assert all(np.array_equal(a, weights(found.model)[name]) for name, a in weights(straight.model).items())


def test_a_checkpoint_of_other_settings_is_refused(taught, tmp_path):
    teacher, student, training, scorer = taught
    kept = tmp_path / "checkpoint.pt"
    distill(teacher, student, training, scorer, Settings(epochs=0.2, batch=64, evaluations=1), checkpoint=kept)
    other = Settings(epochs=0.2, batch=64, rate=0.5, evaluations=1)
    with pytest.raises(RunError, match="rate"):
        distill(teacher, student, training, scorer, other, checkpoint=kept)
    kept.write_bytes(b"nonsense")
    with pytest.raises(RunError, match=r"checkpoint\.pt cannot be read"):
        distill(teacher, student, training, scorer, QUICK, checkpoint=kept)


def test_it_ends_early_when_nothing_becomes_better(taught):
    teacher, student, training, scorer = taught
    wild = Settings(epochs=10, batch=64, rate=1e-30, evaluations=20, patience=2)
    found = distill(teacher, student, training, scorer, wild)
    assert found.stopped_early
    assert 5 < found.epochs < 8


class Scripted:
    """A scorer that says what it is told to."""

    def __init__(self, *marks):
        self._marks = iter(marks)

    def mark(self, model):
        mark = next(self._marks)
        return Marked(Score(mark, "accuracy", "top-1", mark), mark)


BETWEEN = (0.0, 0.0, 0.0)
"""Marks of the weights between those before and those taught, where those are not asked about."""


def test_a_fall_at_the_beginning_is_no_reason_to_end(taught):
    """The first steps undo much of a refit; what counts is whether training itself still goes up."""
    teacher, student, training, _ = taught
    training = training.subset(np.arange(224))  # seven steps
    rising = Scripted(0.9, 0.88, 0.2, 0.1, 0.2, 0.3, 0.8, 0.95, 0.95, *BETWEEN)
    settings = Settings(epochs=1, batch=32, evaluations=7, patience=2)
    found = distill(teacher, student, training, rising, settings)
    assert not found.stopped_early
    assert (found.before.value, found.after.value) == (0.9, 0.95)
    standing = Scripted(0.9, 0.2, 0.3, 0.1, 0.4, 0.4, 0.3, *BETWEEN)
    found = distill(teacher, student, training, standing, settings)
    assert found.stopped_early
    assert found.after.value == 0.9
    assert [score for _, score in found.history] == [0.2, 0.3, 0.1, 0.4, 0.4, 0.3]


@pytest.mark.parametrize(("marks", "share"), [((0.9, 0.95, 0.8), 0.5), ((0.9, 0.91, 0.96), 0.75)])
def test_weights_on_the_way_are_taken_where_they_are_better(taught, marks, share):
    teacher, student, training, _ = taught
    settings = Settings(epochs=1, batch=64, rate=0.01, evaluations=1)
    whole = distill(teacher, student, training, Scripted(0.8, 0.9, 0.9, *BETWEEN), settings)
    found = distill(teacher, student, training, Scripted(0.8, 0.9, 0.9, *marks), settings)
    assert (found.marks, found.share) == ((0.8, max(marks)), share)
    first, last = weights(student), weights(whole.model)
    assert any(not np.array_equal(value, last[name]) for name, value in first.items())
    for name, value in weights(found.model).items():
        np.testing.assert_allclose(value, first[name] + share * (last[name] - first[name]), atol=1e-6)


def test_minutes_are_kept(taught):
    teacher, student, training, scorer = taught
    found = distill(teacher, student, training, scorer, Settings(minutes=0.05, batch=64))
    assert 1.5 < found.seconds < 6
    assert found.steps >= 1


def test_labels_are_learned_from(taught):
    """A teacher that says nothing of use: what is learned comes from the labels."""
    teacher, student, training, _ = taught
    silent = onnx.ModelProto.FromString(teacher.SerializeToString())
    for tensor in silent.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
            continue
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e-3), tensor.name))
    scorer = Scorer.build(teacher, training)
    assert scorer.baseline.kind == "accuracy"
    settings = Settings(epochs=3, batch=64, labels=1.0, augment=False, evaluations=3)
    found = distill(load(silent), student, training, scorer, settings)
    assert found.after.value > found.before.value + 0.1


def test_dense_outputs_are_regressed(build, images):
    text = """g (float[N,3,8,8] x) => (float[N,2,8,8] y, float[N,5] z) {
        a = Conv<pads=[1,1,1,1]>(x, w, b) h = Relu(a) y = Conv<pads=[1,1,1,1]>(h, v, d)
        p = GlobalAveragePool(h) f = Flatten(p) l = Gemm<transB=1>(f, u, c) z = Sigmoid(l)
    }"""
    shapes = {"w": (12, 3, 3, 3), "b": (12,), "v": (2, 12, 3, 3), "d": (2,), "u": (5, 12), "c": (5,)}
    teacher = build(text, shapes)
    analysis = analyze(teacher)
    (group,) = analysis.groups
    student = slim(teacher, {group.name: (0, 3, 7)}, analysis=analysis)
    lessons = Lessons.between(teacher, student)
    assert lessons.teacher[:2] == ("y", "l")

    spec = InputSpec.from_model(teacher)
    dataset = Dataset(spec, {"x": TensorColumn(np.concatenate([images] * 4), spec.inputs[0])}, None, Path("images"))
    scorer = Scorer.build(teacher, dataset.subset(np.arange(96)))
    found = distill(teacher, student, dataset, scorer, Settings(epochs=10, batch=32, augment=False, evaluations=2))
    assert found.improved


def test_a_teacher_of_another_interface_is_refused(taught, residual):
    _, student, training, scorer = taught
    with pytest.raises(InputError, match="the teacher's"):
        distill(residual, student, training, scorer, QUICK)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(), "either --epochs or --minutes"),
        (Settings(epochs=1, minutes=1), "either --epochs or --minutes"),
        (Settings(epochs=-1), "positive number of epochs"),
        (Settings(epochs=1, rate=0), "learning rate"),
        (Settings(epochs=1, labels=2), "between 0 and 1"),
        (Settings(epochs=1, batch=0), "at least one image"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        settings.check()
