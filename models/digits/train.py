"""Train the demo model from scratch and write it as ONNX: some minutes on one core.

python -m ortrim.models.digits.train -o digits.onnx
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import OrtrimError
from ..export import check_writable, export
from . import TEST, TRAIN
from .net import DigitsNet

BATCH = 64
LEARNING_RATE = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
ROTATION = math.radians(10)
"""Largest rotation of a training image, radians."""
SCALING = 0.1
"""Largest change of a training image's height and width, each as a share."""
SHIFT = 0.125
"""Largest shift of a training image, as a share of half its width: half a pixel."""


def read(path: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 8, 8) in [0, 1] and labels (N,) of one split."""
    with np.load(path) as arrays:
        images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2) / 255
        return images.contiguous(), torch.from_numpy(arrays["labels"])


def distort(images: Tensor) -> Tensor:
    """Each image (of N, 1, H, W) turned, scaled and shifted a little, at random."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * ROTATION
    scale = 1 + (torch.rand(count, 2) * 2 - 1) * SCALING
    shift = (torch.rand(count, 2) * 2 - 1) * SHIFT
    rows = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(count, 2, 2)
    matrices = torch.cat([rows * scale[:, :, None], shift[:, :, None]], 2)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def fit(net: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Train `net` in place by SGD with one cycle of the learning rate (Smith and Topin 2017, "Super-Convergence")."""
    optimizer = torch.optim.SGD(
        net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    steps = len(images) // BATCH  # the remainder sits out: its turn comes in the next epoch's order
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs * steps)
    net.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            loss = functional.cross_entropy(net(distort(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        click.echo(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}", err=True)
    net.eval()


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images whose largest logit is their label's."""
    with torch.inference_mode():
        return (net(images).argmax(1) == labels).double().mean().item()


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The ONNX file to write.")
@click.option("--epochs", type=click.IntRange(1), default=40, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--force", is_flag=True, help="Write over an existing file.")
def main(output: Path, epochs: int, seed: int, force: bool) -> None:
    try:
        check_writable(output, force=force)
        torch.manual_seed(seed)
        torch.set_num_threads(1)  # sums of several threads come in any order, and the result would differ
        net = DigitsNet()
        fit(net, *read(TRAIN), epochs)
        export(net, output, net.input_shape, force=force)
    except OrtrimError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)
    click.echo(f"{output}: {accuracy(net, *read(TEST)):.1%} of the held-out images right")


if __name__ == "__main__":
    main()
