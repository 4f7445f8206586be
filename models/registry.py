"""The nets that `ortrim:NAME` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from .cifar_resnet import resnet8, resnet20, resnet32, resnet44, resnet56
from .digits.net import DigitsNet

__all__ = ["FACTORIES"]

FACTORIES: Mapping[str, Callable[[], nn.Module]] = {
    "digits": DigitsNet,
    "resnet8": resnet8,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
}
"""Name -> factory without arguments. What it makes has `input_shape`, the (C, H, W) of one image."""
