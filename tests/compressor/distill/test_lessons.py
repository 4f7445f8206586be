"""What a lesson compares, and how much each part of it counts."""

import pytest
import torch

from ortrim.compressor.distill import Settings
from ortrim.compressor.distill.lessons import Lesson, Lessons
from ortrim.graph import analyze, slim

BOXES = torch.randn(16, 50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([10.0, 10.0, 0.5])
"""Two offsets and a confidence for each of 50 cells."""


def lesson(shown):
    made = Lesson(1, Settings(epochs=1))
    made.spreads = made.spreads_of([shown])
    return made


def test_a_confidence_counts_as_much_as_an_offset():
    teacher = lesson(BOXES)
    losses = []
    for feature in range(3):
        said = BOXES.clone()
        said[:, :, feature] = said[:, :, feature].mean()
        losses.append(float(teacher.loss([BOXES], [said], None)))
    assert losses[:2] == pytest.approx([1 / 3] * 2, rel=0.05)
    assert losses[2] > 0.2 * losses[0]  # by energy it would be a four hundredth


def test_what_one_batch_does_not_show_counts_within_bounds():
    shown = BOXES.clone()
    shown[:, :, 2] = 0.0
    teacher = lesson(shown)
    assert teacher.spreads[0][2] == pytest.approx(0.01 * float(shown.var(correction=0, dim=(0, 1)).mean()), rel=0.01)
    said = shown.clone()
    said[:, :, 2] = 0.5
    assert 0 < float(teacher.loss([shown], [said], None)) < 1


def test_vectors_are_compared_as_a_whole_and_integers_not_at_all():
    vector = BOXES[:, :, 0]
    made = Lesson(2, Settings(epochs=1))
    made.spreads = made.spreads_of([vector, torch.arange(4)])
    assert [len(spread) for spread in made.spreads] == [1, 0]
    assert float(made.loss([vector[:, None, :1], torch.arange(4)], [vector[:, None, :1] + 10.0, None], None)) == (
        pytest.approx(100 / made.spreads[0][0], rel=1e-5)
    )


def test_a_feature_map_that_one_batch_does_not_show_is_left_out():
    made = Lesson(1, Settings(epochs=1, features=1.0))
    output, dead, live = BOXES, torch.zeros(16, 4, 3, 3), torch.randn(16, 4, 3, 3)
    made.spreads = made.spreads_of([output, dead, live])
    assert [len(spread) for spread in made.spreads] == [3, 0, 4]
    assert float(made.loss([output, dead, live], [output, dead + 1.0, live], None)) == 0.0
    assert float(made.loss([output, dead, live], [output, dead, live + 1.0], None)) > 0.1


def test_feature_maps_inside_are_compared_where_the_shapes_are_those_of_the_teacher(build):
    text = """g (float[N,3,8,8] x) => (float[N,5] y) {
        a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) c = Conv<pads=[1,1,1,1]>(b, v) s = Add(c, a)
        h = Conv(s, u) r = Relu(h) e = Conv(r, t) p = GlobalAveragePool(e) y = Flatten(p)
    }"""
    shapes = {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3), "u": (12, 4, 1, 1), "t": (5, 12, 1, 1)}
    teacher = build(text, shapes)
    analysis = analyze(teacher)
    group = next(group for group in analysis.groups if group.size == 12)
    student = slim(teacher, {group.name: (0, 3)}, analysis=analysis)
    lessons = Lessons.between(teacher, student)
    assert lessons.outputs == 1
    assert lessons.student[1:] == ("s", "e")  # the sum, and the last map; `h` and `r` are thinner, `p` is no map
    assert Lessons.between(teacher, student, features=False).student == ("y",)


@pytest.mark.parametrize(
    ("images", "labelled", "said"), [(400, False, (1, 0.5)), (400, True, (1, 0)), (39000, False, (0, 0))]
)
def test_of_few_images_more_is_shown(images, labelled, said):
    suited = Settings(epochs=1).suited_to(images, labelled)
    assert (suited.features, suited.blends) == said
    asked = Settings(epochs=1, features=0.3, blends=0.1).suited_to(images, labelled)
    assert (asked.features, asked.blends) == (0.3, 0.0 if labelled else 0.1)
