"""What a job is about: which images its scores are of."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from ortrim.compressor.data import Preprocessing
from ortrim.compressor.subject import read_subject


@pytest.fixture
def asked(residual, tmp_path):
    """A job on so many images."""
    onnx.save(residual, tmp_path / "net.onnx")

    def ask(images, *, finetune=None, labels=None, calibration=20, reward=10):
        there = np.random.default_rng(0).random((images, 3, 8, 8), np.float32)
        extra = {} if labels is None else {"labels": labels}
        np.savez(tmp_path / "images.npz", images=there, **extra)
        return SimpleNamespace(
            model=tmp_path / "net.onnx",
            data=tmp_path / "images.npz",
            size=None,
            keep=(),
            finetune=finetune,
            calibration=calibration,
            reward=reward,
            preprocessing=Preprocessing(),
            seed=0,
            label_offset=0,
        )

    return ask


def samples(dataset):
    """Each image by its first number."""
    return set(dataset.feeds()["x"][:, 0, 0, 0].tolist())


def test_what_a_search_found_is_judged_by_images_of_its_own(asked):
    subject = read_subject(asked(300))
    parts = [subject.images.calibration, subject.scorer.dataset, subject.judge.dataset]
    assert [len(part) for part in parts] == [20, 10, 10]
    assert len(set.union(*map(samples, parts))) == 40
    assert subject.judge.baseline.value == 1.0


def test_of_few_images_those_judge_that_scored(asked):
    subject = read_subject(asked(34))  # 4 are left, and 10 were wanted
    assert subject.judge is subject.scorer


def test_a_lesson_gives_up_a_fifth_of_its_images_at_most(asked):
    subject = read_subject(asked(150, finetune=object(), reward=40))
    assert len(subject.judge.dataset) == 30
    assert len(subject.images.training) == 150 - 40 - 30
    assert not samples(subject.images.training) & (samples(subject.judge.dataset) | samples(subject.scorer.dataset))


def test_scores_of_two_kinds_are_not_compared(asked, monkeypatch):
    """Agreement says nothing where the original sees one class only, which may be so in one part of the images."""
    from ortrim.compressor import subject as module

    first = []

    def build(model, images, *args, **kwargs):
        kind = "closeness" if first else "agreement"
        first.append(images)
        return SimpleNamespace(dataset=images, baseline=SimpleNamespace(kind=kind, detail=""))

    monkeypatch.setattr(module.Scorer, "build", build)
    found = read_subject(asked(300))
    assert len(first) == 2
    assert found.judge is found.scorer
    assert found.scorer.dataset is first[0]
