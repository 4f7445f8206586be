"""Training in less than float32; float16 and its scaling cannot run without a GPU."""

import pytest
import torch
from torch import nn

from ortrim.compressor.mixed import MixedPrecision

CPU = torch.device("cpu")


@pytest.mark.parametrize("bf16", [False, True])
def test_bfloat16_where_the_processor_has_it(monkeypatch, bf16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16})
    precision, layer = MixedPrecision(CPU), nn.Linear(4, 3)
    with precision():
        said = layer(torch.ones(2, 4))
    assert said.dtype == precision.dtype == (torch.bfloat16 if bf16 else torch.float32)
    assert layer.weight.dtype == torch.float32


def test_float32_on_demand(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with MixedPrecision(CPU, enabled=False)():
        assert nn.Linear(4, 3)(torch.ones(2, 4)).dtype == torch.float32


@pytest.mark.parametrize("kind", ["amx_bf16", "avx512_bf16"])
def test_matrix_units_are_those_of_bfloat16(monkeypatch, kind):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, kind: True})
    assert MixedPrecision(CPU).in_matrix_units == (kind == "amx_bf16")
    assert not MixedPrecision(CPU, enabled=False).in_matrix_units


@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_step_goes_down_a_gradient_no_longer_than_allowed(clip):
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    precision = MixedPrecision(CPU)
    for _ in range(2):  # what an earlier step left behind is no part of the next
        weight.data = torch.tensor([3.0, 4.0])
        precision.step(0.5 * weight.square().sum(), optimizer, clip)
    gone = torch.tensor([3.0, 4.0]) - weight.detach()
    torch.testing.assert_close(gone, torch.tensor([3.0, 4.0]) * (1.0 if clip is None else clip / 5.0))


def test_a_gradient_that_is_no_number_moves_nothing():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    precision = MixedPrecision(CPU)
    precision.step((weight * torch.tensor([float("nan"), 1.0])).sum(), optimizer, 0.5)
    assert weight.tolist() == [3.0, 4.0]
    precision.step(0.5 * weight.square().sum(), optimizer, 5.0)  # nor does anything of it stay
    assert weight.tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
