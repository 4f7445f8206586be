import pytest
import torch
from torch import nn

from ortrim.models.cifar_resnet import CifarResNet, resnet20, resnet32, resnet44, resnet56

# He et al. 2015, table 6: layers and millions of parameters
PAPER = [(resnet20, 20, 0.27), (resnet32, 32, 0.46), (resnet44, 44, 0.66), (resnet56, 56, 0.85)]
# The paper's shortcuts have no parameters; two 1x1 convolutions with their BatchNorms have these
SHORTCUTS = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


@pytest.mark.parametrize(("factory", "layers", "millions"), PAPER)
def test_layers_and_parameters_are_the_papers(factory, layers, millions):
    net = factory()
    weighted = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(weighted) == layers
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert (parameters - SHORTCUTS) / 1e6 == pytest.approx(millions, abs=0.005)


def test_each_stage_halves_the_image_and_doubles_the_width():
    net = resnet20().eval()
    shapes = []
    for block in net.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
    with torch.inference_mode():
        logits = net(torch.rand(2, *net.input_shape))
    assert shapes == [(2, 16, 32, 32)] * 3 + [(2, 32, 16, 16)] * 3 + [(2, 64, 8, 8)] * 3
    assert logits.shape == (2, 10)


def test_a_shortcut_has_weights_only_where_shapes_change():
    with_weights = [bool(list(block.shortcut.parameters())) for block in CifarResNet((2, 2), (8, 16)).blocks]
    assert with_weights == [False, False, True, False]


def test_channels_and_classes_follow_the_arguments():
    net = CifarResNet((1, 1), (4, 8), in_channels=1, num_classes=7).eval()
    with torch.inference_mode():
        assert net(torch.rand(3, 1, 12, 12)).shape == (3, 7)
