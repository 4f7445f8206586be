"""The module that trains is the net that was named, with its BatchNormalization and its names."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from ortrim.compressor.joint.traced import trace_for_training
from ortrim.errors import InputError
from ortrim.graph import write_back
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


class Tokens(nn.Module):
    """What a vision transformer has: a class token and positions, beside layers."""

    def __init__(self, table=False, frozen=False):
        super().__init__()
        self.patches = nn.Linear(8, 12)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.positions = nn.Parameter(torch.randn(1, 9, 12))
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 10)
        if table:
            self.table = nn.Parameter(torch.randn(5, 12), requires_grad=not frozen)
            self.register_buffer("rows", torch.arange(9) % 5)

    def forward(self, x):
        x = self.patches(x[:, 0])
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        if hasattr(self, "table"):
            x = x + self.table[self.rows]
        return self.head(torch.tanh(self.norm(x)).mean(dim=1))


def test_parameters_that_the_graph_does_not_tell_from_constants_train_too():
    net = Net("tokens", Tokens(), (1, 8, 8))
    traced = trace_for_training(net)
    own = dict(net.module.named_parameters())
    trained = dict(traced.module.named_parameters())
    assert {"token", "positions"} <= set(trained)
    assert sum(map(torch.numel, trained.values())) == sum(map(torch.numel, own.values()))
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for made in (net.module, traced.module):
        made(images).square().sum().backward()
    for name in ("token", "positions"):
        torch.testing.assert_close(trained[name].grad, own[name].grad)
        with torch.no_grad():
            trained[name].sub_(trained[name].grad)
    written = {t.name: numpy_helper.to_array(t) for t in write_back(traced.model, traced.module).graph.initializer}
    for name in ("token", "positions"):
        assert np.array_equal(written[name], trained[name].detach().numpy())
        assert not np.array_equal(written[name], own[name].detach().numpy())
    assert not traced.model.metadata_props


def test_a_parameter_that_would_stay_as_it_began_is_refused():
    with pytest.raises(InputError, match=r"tokens: its parameter table cannot be trained.*requires_grad"):
        trace_for_training(Net("tokens", Tokens(table=True), (1, 8, 8)))
    trace_for_training(Net("tokens", Tokens(table=True, frozen=True), (1, 8, 8)))


@pytest.mark.parametrize("momentum", [None, 0.0])
def test_statistics_that_would_never_move_are_refused(momentum):
    """torch exports its cumulative average as a momentum that lets nothing in."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=momentum), nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(InputError, match="still: BatchNormalization 1 has a momentum of None or 0"):
        trace_for_training(Net("still", net, (1, 8, 8)))
