"""A step holds as many images as its memory allows."""

import pytest
import torch
from torch import nn

from ortrim.compressor.distill.memory import saved_bytes


class Squares(nn.Module):
    """Keeps its input and the product with a weight for the backward pass, 4 bytes a number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1000, 10))

    def forward(self, inputs):
        return torch.exp(inputs["x"] @ self.weight)


@pytest.mark.parametrize("rows", [1, 4, 32])
def test_what_the_backward_pass_needs_is_counted_without_the_weights(rows):
    # The product's input, and the exponential, which is its own derivative.
    assert saved_bytes(Squares(), {"x": torch.zeros(rows, 1000)}) == 4 * rows * (1000 + 10)
    assert saved_bytes(Squares(), {"x": torch.zeros(rows, 1000)}) == 4 * rows * 1010  # nothing stays from before
