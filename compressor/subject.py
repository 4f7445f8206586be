"""What a job is about, read before anything is written: the model, its groups, the images, the original's score."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from .. import graph
from ..runtime import Device, usable_cores
from .data import Dataset, InputSpec, Split, load_data, split
from .job import Job
from .score import Scorer
from .search.candidates import prunable_groups

__all__ = ["Subject", "read_subject"]


@dataclass(frozen=True)
class Subject:
    """What is known before anything is written: the model, its groups, the images, the original's score."""

    original: onnx.ModelProto
    """As given: latency is compared with this."""
    given: onnx.ModelProto
    """Loaded, otherwise as given."""
    loaded: onnx.ModelProto
    """What is pruned: as given, or the same function in cheaper operators."""
    analysis: graph.ChannelAnalysis
    groups: tuple[graph.ChannelGroup, ...]
    images: Split
    scorer: Scorer
    """Of candidates."""
    judge: Scorer
    """Of what comes after the search."""

    @property
    def in_cheaper_operators(self) -> bool:
        """Whether the net is another graph than the one that was given (see `equivalent`)."""
        return self.loaded is not self.given


FEWEST_TAUGHT = 5
"""Of the images from which a net is taught, one in so many may be taken to judge what comes of it."""


def read_subject(job: Job) -> Subject:
    original = graph.read(job.model)
    loaded = graph.load(original)
    analysis = graph.analyze(loaded)
    groups = prunable_groups(analysis, job.keep)
    spec = InputSpec.from_model(loaded, job.size)
    tunes = job.finetune is not None
    wanted = None if tunes else job.calibration + 2 * job.reward
    dataset = load_data(job.data, spec, job.preprocessing, wanted, job.seed)
    judging = min(job.reward, len(dataset) // FEWEST_TAUGHT) if tunes else job.reward
    images = split(dataset, job.calibration, job.reward, job.seed, judging)
    scorer = _scorer(job, loaded, images.reward)
    judge = scorer if images.judging is images.reward else _scorer(job, loaded, images.judging)
    if (judge.baseline.kind, judge.baseline.detail) != (scorer.baseline.kind, scorer.baseline.detail):
        judge = scorer  # as where all images of one part are of one class: scores of two kinds do not compare
    return Subject(original, loaded, loaded, analysis, groups, images, scorer, judge)


def _scorer(job: Job, loaded: onnx.ModelProto, images: Dataset) -> Scorer:
    device = Device("cpu", threads=usable_cores())
    return Scorer.build(loaded, images, device, label_offset=job.label_offset, blends=True)
