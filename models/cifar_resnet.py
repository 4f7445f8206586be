"""Residual nets for small images, after He et al., "Deep Residual Learning for Image Recognition" (2015), section 4.2.

A 3x3 convolution, three stages of basic blocks that halve the image and widen the net, global average pooling and one
linear layer: 6n + 2 layers for n blocks a stage. The paper's own shortcut pads new channels with zeros; here a 1x1
convolution makes them (its option B), as most people build these nets, at 2,752 more parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BasicBlock", "CifarResNet", "resnet8", "resnet20", "resnet32", "resnet44", "resnet56"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """(N, in_channels, H, W) -> (N, num_classes) logits.

    Args:
        blocks: basic blocks of each stage; every stage but the first halves height and width.
        widths: channels of each stage.
        in_channels: channels of the images.
        num_classes: length of the logits.
    """

    input_shape = (3, 32, 32)
    """One image, as `trace` needs it to make an example."""

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int] = (16, 32, 64),
        in_channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        layers: list[nn.Module] = []
        c_in = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for index in range(count):
                layers.append(BasicBlock(c_in, width, stride=2 if stage > 0 and index == 0 else 1))
                c_in = width
        self.blocks = nn.Sequential(*layers)
        self.fc = nn.Linear(c_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(functional.relu(self.bn(self.conv(x))))
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


def resnet8() -> CifarResNet:
    """ResNet-8: 1 block a stage, 0.08 million parameters; smaller than the paper's, for boards and quick trials."""
    return CifarResNet((1, 1, 1))


def resnet20() -> CifarResNet:
    """ResNet-20: 3 blocks a stage, 0.27 million parameters."""
    return CifarResNet((3, 3, 3))


def resnet32() -> CifarResNet:
    """ResNet-32: 5 blocks a stage, 0.46 million parameters."""
    return CifarResNet((5, 5, 5))


def resnet44() -> CifarResNet:
    """ResNet-44: 7 blocks a stage, 0.66 million parameters."""
    return CifarResNet((7, 7, 7))


def resnet56() -> CifarResNet:
    """ResNet-56: 9 blocks a stage, 0.85 million parameters."""
    return CifarResNet((9, 9, 9))
