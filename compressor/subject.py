"""What a job is about, read before anything is written: the model, its groups, the images, the original's score."""

from __future__ import annotations

import os
from dataclasses import dataclass

import onnx

from .. import graph
from ..runtime import Device
from .data import InputSpec, Split, load_data, split
from .job import Job
from .score import Scorer
from .search.candidates import prunable_groups

__all__ = ["Subject", "read_subject"]


@dataclass(frozen=True)
class Subject:
    """What is known before anything is written: the model, its groups, the images, the original's score."""

    original: onnx.ModelProto
    """As given: latency is compared with this."""
    loaded: onnx.ModelProto
    analysis: graph.ChannelAnalysis
    groups: tuple[graph.ChannelGroup, ...]
    images: Split
    scorer: Scorer


def read_subject(job: Job) -> Subject:
    original = graph.read(job.model)
    loaded = graph.load(original)
    analysis = graph.analyze(loaded)
    groups = prunable_groups(analysis, job.keep)
    spec = InputSpec.from_model(loaded, job.size)
    wanted = None if job.finetune is not None else job.calibration + job.reward
    dataset = load_data(job.data, spec, job.preprocessing, wanted, job.seed)
    images = split(dataset, job.calibration, job.reward, job.seed)
    cores = Device("cpu", threads=os.cpu_count())
    scorer = Scorer.build(loaded, images.reward, cores, label_offset=job.label_offset)
    return Subject(original, loaded, analysis, groups, images, scorer)
