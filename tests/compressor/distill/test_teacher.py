"""Whatever runs the teacher, it says the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ortrim.compressor.distill import teacher as teaching
from ortrim.compressor.mixed import MixedPrecision
from ortrim.graph import to_torch

CPU = torch.device("cpu")


@pytest.fixture
def images():
    return {"x": torch.from_numpy(np.random.default_rng(0).random((4, 3, 8, 8), np.float32))}


@pytest.mark.parametrize(
    ("amx", "any_batch", "by"), [(False, True, None), (True, True, "torch"), (False, False, "torch")]
)
def test_it_says_what_the_net_says(residual, images, monkeypatch, amx, any_batch, by):
    asked = []
    monkeypatch.setattr(teaching, "to_torch", lambda model: asked.append("torch") or to_torch(model))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": amx, "amx_bf16": amx})
    precision = MixedPrecision(CPU)
    teacher = teaching.teacher_of(residual, CPU, any_batch, precision)
    assert asked == ([by] if by else [])
    with precision():
        (said,) = teacher(images)
    assert not said.requires_grad
    wanted = to_torch(residual)(images).detach()
    torch.testing.assert_close(said.float(), wanted, rtol=0, atol=(0.03 if amx else 1e-4) * float(wanted.abs().max()))
