"""What candidates and students are compared by."""

import pickle

import numpy as np
import pytest

from ortrim.compressor.data import InputSpec, Preprocessing, load_data
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


def test_without_labels_part_of_the_mark_is_about_blends(classroom):
    teacher, student, held = classroom
    scorer = Scorer.build(teacher, held.unlabelled(), blends=True)
    assert scorer.mark(teacher).mark == pytest.approx(1)
    marked = scorer.mark(student)
    assert marked.score == Scorer.build(teacher, held.unlabelled()).score(student)
    assert marked.mark < 1
    blends = scorer.harder.score(student).for_search
    assert min(blends, marked.score.for_search) < marked.mark < max(blends, marked.score.for_search)
    assert pickle.loads(pickle.dumps(scorer)).mark(student) == marked


def test_blends_are_left_out_unless_they_are_asked_for(classroom):
    teacher, student, held = classroom
    scorer = Scorer.build(teacher, held.unlabelled())
    assert scorer.mark(student).mark == scorer.score(student).for_search


def test_with_labels_being_right_counts(classroom):
    teacher, student, held = classroom
    scorer = Scorer.build(teacher, held, blends=True)
    marked = scorer.mark(student)
    assert marked.score.kind == "accuracy"
    assert marked.mark == scorer.score(student).for_search
