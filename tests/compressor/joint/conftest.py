"""A net of a thousand weights, digits to learn, and a device whose latencies are a formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ortrim.compressor.joint import training as training_module
from ortrim.compressor.joint.masks import Masks
from ortrim.compressor.joint.traced import trace_for_training
from ortrim.compressor.report import DeviceFacts
from ortrim.compressor.search.meter import Quick
from ortrim.compressor.search.prediction import Prediction
from ortrim.models import digits
from ortrim.models.build import Net
from ortrim.runtime import Latency, Ratio

NET = '''
import torch
from torch import nn
from torch.nn import functional


class Tiny(nn.Module):
    """A stem, a residual block, a wider convolution without a bias, a classifier."""

    input_shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 12, 3, padding=1)
        self.inner_bn = nn.BatchNorm2d(12)
        self.outer = nn.Conv2d(12, 8, 3, padding=1, bias=False)
        self.outer_bn = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 16, 3, 2, padding=1, bias=False)
        self.wide_bn = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = functional.relu(self.stem_bn(self.stem(x)))
        inner = torch.sigmoid(self.inner_bn(self.inner(x)))
        x = functional.relu(self.outer_bn(self.outer(inner)) + x)
        x = functional.relu(self.wide_bn(self.wide(x)))
        return self.head(x.mean(dim=(2, 3)))
'''


class Blocks:
    """A table that charges for blocks of four channels on either side."""

    def milliseconds(self, shape):
        return 0.001 * -(-shape.c_in // 4) * -(-shape.c_out // 4) * float(np.prod(shape.spatial))


def latency(milliseconds):
    values = dict.fromkeys(("median_ms", "p90_ms", "low_ms", "high_ms", "wall_median_ms"), milliseconds)
    return Latency(**values, confidence=0.95, samples_ms=(milliseconds,), clock="wall", conditions={})


class FormulaMeter:
    """Whole nets take a little more than the table says: always the same."""

    more = 0.02

    def __init__(self):
        self.facts = DeviceFacts("formula", "provider", "1.31", "cpu")
        self.prediction = None
        self.quickly = self.finally_ = 0

    def baseline(self):
        return 2.0

    def predict(self, analysis, shapes):
        self.prediction = Prediction(analysis, shapes, Blocks())
        return self.prediction

    def quick(self, plan, model, limit=None):
        self.quickly += 1
        ratio = self.prediction.ratio(plan) + self.more
        return Quick(ratio, ratio, ratio, 2.0, 2.0 * ratio)

    def final(self, plan, model, *, recovered=False, limit=None):
        self.finally_ += 1
        ratio = self.prediction.ratio(plan) + self.more
        return Ratio(ratio, ratio, ratio, 0.95, latency(2.0), latency(2.0 * ratio), 0.0, False)

    def keep_table(self):
        """Nothing is kept."""

    def close(self):
        """Nothing is open."""


@pytest.fixture(scope="session")
def tiny_module(tmp_path_factory):
    """The folder in which `tinynet.py` lies."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "tinynet.py").write_text(NET)
    return folder


@pytest.fixture
def tiny(tiny_module, monkeypatch):
    """What names the tiny net."""
    monkeypatch.syspath_prepend(tiny_module)
    return "tinynet:Tiny"


@pytest.fixture
def net(tiny):
    """The tiny net, traced, with weights and statistics that are all different."""
    import tinynet

    torch.manual_seed(3)
    made = Net("tiny", tinynet.Tiny(), (1, 8, 8))
    traced = trace_for_training(made)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for value in traced.module.initializers.values():
            if value.is_floating_point():
                value.add_(0.3 * torch.rand(value.shape, generator=generator))
    return traced


@pytest.fixture
def masks(net):
    return Masks(net.analysis, net.module)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """400 labelled digits."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    with np.load(digits.TRAIN) as train:
        np.savez(path, images=train["images"][:400], labels=train["labels"][:400])
    return path


@pytest.fixture
def meter(monkeypatch):
    """The formula in place of the device; every training gets this one."""
    made = FormulaMeter()
    monkeypatch.setattr(training_module, "open_meter", lambda *arguments: made)
    return made
