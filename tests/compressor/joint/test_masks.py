"""The masked net is the slim net, and weights come back as they were."""

import numpy as np
import onnxruntime as ort
import pytest
import torch

from ortrim.compressor.joint.alignment import Alignment
from ortrim.compressor.joint.judge import Judge
from ortrim.compressor.joint.masks import Masks, maskable_groups
from ortrim.compressor.joint.traced import trace_for_training
from ortrim.compressor.mixed import MixedPrecision
from ortrim.errors import NothingToPruneError
from ortrim.graph import Role, slim, verify, write_back
from ortrim.models.build import build

PLANS = [{"stem": 5}, {"inner": 3, "wide": 7}, {"stem": 3, "inner": 1, "wide": 16}, {"inner": 0, "stem": 6}]


def run(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


@pytest.mark.parametrize("plan", PLANS)
def test_a_masked_net_computes_what_the_slim_net_does(net, masks, plan):
    images = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    removal = masks.ranking().removal(plan)
    whole = net.module.eval()(torch.from_numpy(images)).detach()
    with masks.off(removal), torch.no_grad():
        masked = net.module(torch.from_numpy(images)).numpy()
    before = write_back(net.model, net.module)
    small = slim(before, removal, analysis=net.analysis)
    np.testing.assert_allclose(run(small, images), masked, rtol=1e-4, atol=1e-5)
    assert np.abs(masked - whole.numpy()).max() > 1e-3  # it is another net
    verify(before, small, removal, analysis=net.analysis)


def test_a_residual_net_masked_along_its_streams():
    net = trace_for_training(build("ortrim:resnet20", seed=2))
    masks = Masks(net.analysis, net.module)
    plan = {group.name: max(1, group.size // 2) for group in masks.groups}
    removal = masks.ranking().removal(plan)
    images = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    with masks.off(removal), torch.no_grad():
        masked = net.module.eval()(torch.from_numpy(images)).numpy()
    small = slim(net.model, removal, analysis=net.analysis)
    np.testing.assert_allclose(run(small, images), masked, rtol=1e-3, atol=1e-4)


def test_what_is_masked_comes_back_bit_for_bit(net, masks):
    before = {name: value.clone() for name, value in net.module.initializers.items()}
    with masks.off({"inner": (0, 4)}):
        assert not net.module.initializers["outer.weight"][:, [0, 4]].any()
        assert net.module.initializers["outer.weight"][:, 1].all()
    for name, value in net.module.initializers.items():
        assert torch.equal(value, before[name]), name


def test_units_go_in_the_order_of_the_norm_of_their_filters(net, masks):
    with torch.no_grad():
        for unit in range(16):
            net.module.initializers["wide.weight"][unit] = 0.01 * ((unit * 7) % 16 + 1)
        # The stream of the stem is made by two layers; the norms are averaged.
        net.module.initializers["stem.weight"][:] = 1.0
        net.module.initializers["outer.weight"][:] = 1.0
        net.module.initializers["stem.weight"][3] = 0.0
        net.module.initializers["outer.weight"][5] = 0.0
    ranking = masks.ranking()
    assert list(ranking.order["wide"]) == sorted(range(16), key=lambda unit: (unit * 7) % 16)
    assert ranking.order["stem"][:2] == (5, 3)  # 12 inputs and 1 input of 9 weights: 108 / 2 and 9 / 2 are missing


def test_groups_that_a_mask_cannot_switch_off_are_not_offered():
    import torch.nn as nn

    from ortrim.models.build import Net

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.second = nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 10)

        def forward(self, x):
            return self.second(self.norm(self.first(x.flatten(1))))

    traced = trace_for_training(Net("mixed", Mixed(), (1, 8, 8)))
    assert not traced.analysis.group("first").exact
    with pytest.raises(NothingToPruneError, match="--no-prune"):
        maskable_groups(traced.analysis)


def test_the_alignment_pulls_at_masked_channels_alone(net, masks):
    removal = {"stem": (1, 6), "inner": (0,)}
    Alignment(masks, net.module, removal).penalty().backward()
    touched = {name: value.grad for name, value in net.module.named_parameters() if value.grad is not None}
    assert set(touched) == {"stem.weight", "inner.weight", "outer.weight", "wide.weight"}
    cuts = {(cut.tensor, cut.axis): cut.gone.tolist() for cut in masks.cuts(removal, (Role.PRODUCER, Role.CONSUMER))}
    for name, gradient in touched.items():
        masked = torch.zeros_like(gradient, dtype=torch.bool)
        for (tensor, axis), gone in cuts.items():
            if tensor == name:
                masked.index_fill_(axis, torch.tensor(gone), True)
        assert not gradient[~masked].any()
        assert (gradient[masked] != 0).all()
        assert (gradient[masked].sign() == net.module.initializers[name][masked].sign()).all()  # towards 0


def test_the_alignment_takes_masked_channels_to_zero_and_stays_there(net, masks):
    removal = {"wide": (2, 9)}
    alignment = Alignment(masks, net.module, removal)
    before = net.module.initializers["wide.weight"].detach().clone()
    steps = torch.optim.SGD(net.module.parameters(), 0.02)
    sizes = []
    for _ in range(400):
        steps.zero_grad()
        penalty = alignment.penalty()
        penalty.backward()
        steps.step()
        sizes.append(float(penalty.detach()))
    after = net.module.initializers["wide.weight"].detach()
    kept = [unit for unit in range(16) if unit not in (2, 9)]
    assert sizes[-1] < 0.02 * sizes[0]
    assert torch.equal(after[kept], before[kept])
    with torch.no_grad():
        for cut in masks.cuts(removal, (Role.PRODUCER, Role.CONSUMER)):
            net.module.initializers[cut.tensor].index_fill_(cut.axis, cut.gone, 0.0)
    net.module.zero_grad()
    alignment.penalty().backward()
    assert all(torch.isfinite(value.grad).all() for value in net.module.parameters() if value.grad is not None)


@pytest.fixture
def judge(net, masks, data):
    from ortrim.compressor.data import InputSpec, load_data

    dataset = load_data(data, InputSpec.from_model(net.model))
    cpu = torch.device("cpu")
    return Judge(
        net.module,
        masks,
        net.normalizations,
        dataset.subset(range(300)),
        dataset.subset(range(300, 400)),
        batch=50,
        batches=4,
        seed=0,
        device=cpu,
        precision=MixedPrecision(torch.device("meta"), enabled=False),
    )


def test_a_reward_leaves_the_net_as_it_was(net, masks, judge):
    before = {name: value.clone() for name, value in net.module.initializers.items()}
    removal = masks.ranking().removal({"inner": 4, "wide": 8})
    assert judge.reward(removal) == judge.reward(removal)
    for name, value in net.module.initializers.items():
        assert torch.equal(value, before[name]), name


def test_statistics_are_the_mean_over_batches_of_what_the_layers_see(net, masks, judge):
    images = [images for images, _ in judge._batches(judge._few, 50)]
    judge.reestimate()
    seen = []
    net.module.train()
    with torch.no_grad():
        for batch in images:
            stem = torch.nn.functional.conv2d(batch, net.module.initializers["stem.weight"], padding=1)
            seen.append((stem.mean(dim=(0, 2, 3)), stem.var(dim=(0, 2, 3))))
    values, first = net.module.initializers, net.normalizations[0]
    torch.testing.assert_close(values[first.mean], torch.stack([mean for mean, _ in seen]).mean(dim=0))
    torch.testing.assert_close(
        values[first.variance], torch.stack([variance for _, variance in seen]).mean(dim=0), rtol=1e-4, atol=1e-6
    )


def test_a_wrecked_branch_costs_reward(net, masks, judge):
    """Once the net can do something: all units off but one of a layer that everything passes, or only one off."""
    steps = torch.optim.Adam(net.module.parameters(), 0.01)
    for _ in range(30):
        for images, labels in judge._batches(judge._few, 50):
            net.module.train()
            steps.zero_grad()
            torch.nn.functional.cross_entropy(net.module(images), labels).backward()
            steps.step()
    whole = judge.reward({})
    few, most = (judge.reward(masks.ranking().removal({"wide": width})) for width in (1, 15))
    assert whole > 0.5
    assert most > whole - 0.25
    assert few < 0.5 * most
