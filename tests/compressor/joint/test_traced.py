"""The module that trains is the net that was named, with its BatchNormalization and its names."""

import pytest
import torch
from torch import nn

from ortrim.compressor.joint.traced import trace_for_training
from ortrim.errors import InputError
from ortrim.models.build import Net, build


@pytest.mark.parametrize("spec", ["ortrim:digits", "ortrim:resnet20", "torchvision:shufflenet_v2_x0_5"])
def test_it_computes_and_trains_as_the_net_does(spec):
    net = build(spec, seed=1)
    traced = trace_for_training(net)
    images = torch.rand(4, *net.shape, generator=torch.Generator().manual_seed(0))
    assert {name for name, _ in traced.module.named_parameters()} == {name for name, _ in net.module.named_parameters()}
    for training in (False, True):
        said, wanted = traced.module.train(training)(images), net.module.train(training)(images)
        torch.testing.assert_close(said, wanted)
    said.sum().backward()
    wanted.sum().backward()
    gradients = {name: value.grad for name, value in net.module.named_parameters()}
    for name, value in traced.module.named_parameters():
        torch.testing.assert_close(value.grad, gradients[name])
    statistics = dict(net.module.named_buffers())
    for normalization in traced.normalizations:  # what the training pass left
        for name in (normalization.mean, normalization.variance):
            torch.testing.assert_close(traced.module.initializers[name], statistics[name])
    assert len(traced.normalizations) == sum(isinstance(part, nn.BatchNorm2d) for part in net.module.modules())


def test_the_graph_has_the_nets_own_weights_and_layers_are_named_after_them(net):
    assert {"stem", "inner", "outer", "wide", "head"} <= {node.name for node in net.model.graph.node}
    assert {group.name for group in net.analysis.groups} == {"stem", "inner", "wide"}
    assert net.classes == 10


def test_what_is_no_classifier_is_refused():
    with pytest.raises(InputError, match="only classifiers"):
        trace_for_training(Net("conv", nn.Conv2d(1, 4, 3), (1, 8, 8)))


def test_dropout_is_not_lost_silently():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 10))
    (note,) = trace_for_training(Net("dropping", net, (1, 8, 8))).notes
    assert "dropout (3" in note
