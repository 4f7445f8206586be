"""What students are marked by."""

import numpy as np
import pytest

from ortrim.compressor.data import InputSpec, Preprocessing, load_data
from ortrim.compressor.distill.exam import Exam
from ortrim.compressor.recovery import rank
from ortrim.compressor.score import Scorer
from ortrim.graph import analyze, load, slim
from ortrim.models import digits


@pytest.fixture(scope="module")
def classroom():
    """The digits net, the same with a tenth of its units gone, and images with labels."""
    teacher = load(digits.MODEL)
    analysis = analyze(teacher)
    widths = {group.name: max(1, round(0.9 * group.size)) for group in analysis.groups}
    student = slim(teacher, rank(teacher, analysis, "l2").removal(widths), analysis=analysis)
    held = load_data(digits.TRAIN, InputSpec.from_model(teacher), Preprocessing()).subset(np.arange(200))
    return teacher, student, held


def test_without_labels_half_of_the_mark_is_about_blends(classroom):
    teacher, student, held = classroom
    scorer = Scorer.build(teacher, held.unlabelled())
    exam = Exam(teacher, scorer)
    assert exam.mark(teacher).mark == pytest.approx(1)
    marked = exam.mark(student)
    assert marked.score == scorer.score(student)
    assert marked.mark < 1
    assert marked.mark != marked.score.for_search
    assert Exam(teacher, scorer).mark(student) == marked


def test_with_labels_being_right_counts(classroom):
    teacher, student, held = classroom
    scorer = Scorer.build(teacher, held)
    marked = Exam(teacher, scorer).mark(student)
    assert marked.score.kind == "accuracy"
    assert marked.mark == scorer.score(student).for_search
