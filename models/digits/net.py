"""The demo model's architecture: a residual net for 8x8 digits, wider and deeper than the task needs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ..cifar_resnet import CifarResNet

__all__ = ["DigitsNet"]


class DigitsNet(CifarResNet):
    """(N, 1, 8, 8) images in [0, 1] -> (N, 10) logits.

    The image is first enlarged to 16x16, so that three stages (16x16, 8x8, 4x4) have pixels to work on and most of the
    latency is convolution. Seven blocks are more than ten digits need: there is something to prune.
    """

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__(blocks=(3, 3, 1), widths=(32, 64, 96), in_channels=1, num_classes=10)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.interpolate(x, scale_factor=2.0, mode="bilinear"))
