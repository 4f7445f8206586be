"""One ratio for every group: widths, importances, and least squares where there are images."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from ortrim.compressor.prune import prune, width_for
from ortrim.errors import InputError, NothingToPruneError
from ortrim.graph import analyze
from ortrim.models import digits


@pytest.fixture(scope="module")
def folder(residual, images, tmp_path_factory):
    """`net.onnx` with two residual blocks, and `images.npz` for it."""
    folder = tmp_path_factory.mktemp("prune")
    onnx.save(residual, folder / "net.onnx")
    np.savez(folder / "images.npz", x=images)
    return folder


@pytest.fixture
def error(folder, run, residual, images):
    """How far a pruned model's output is from the original's, relative to how much that varies."""
    (wanted,) = run(residual, images, "y")

    def measure(**settings):
        (got,) = run(prune(folder / "net.onnx", 0.3, **settings).model, images, "y")
        return float(((got - wanted) ** 2).sum() / ((wanted - wanted.mean(0)) ** 2).sum())

    return measure


@pytest.mark.parametrize(
    ("size", "ratio", "multiple", "width"),
    [
        (10, 0.3, 1, 7),
        (32, 0.3, 1, 23),
        (32, 0.3, 8, 24),
        (32, 0.5, 16, 16),
        (32, 0.4, 64, 32),
        (3, 0.99, 1, 1),
        (1, 0.5, 1, 1),
        (20, 0.5, 16, 16),
        (20, 0.1, 16, 20),
    ],
)
def test_widths(size, ratio, multiple, width):
    assert width_for(size, ratio, multiple) == width


@pytest.mark.parametrize("ratio", [i / 100 for i in range(1, 100)])
def test_no_more_than_the_share_goes(ratio):
    for size in range(1, 130):
        width = width_for(size, ratio)
        assert 1 <= width <= size
        assert width == 1 or abs(size - width - ratio * size) < 1
        assert size - width <= ratio * size + 1e-6


def test_every_group_loses_its_share():
    pruned = prune(digits.MODEL, 0.5)
    sizes = {group.name: group.size for group in analyze(digits.MODEL).groups}
    assert pruned.plan == {name: size // 2 for name, size in sizes.items()}
    assert pruned.importance == "l2"
    assert {group.name: group.size for group in analyze(pruned.model).groups} == pruned.plan
    header = {item.key: item.value for item in pruned.model.metadata_props}
    assert json.loads(header["ortrim.plan"]) == pruned.plan
    onnx.checker.check_model(pruned.model, full_check=True)


def test_images_bring_back_what_pruning_loses(error, folder):
    assert error(data=folder / "images.npz") < 0.5 * error()


@pytest.mark.parametrize("importance", ["refit", "activation", "l1", "l2", "bn", "random"])
def test_what_is_left_is_refitted_whatever_went(folder, error, importance):
    fitted = error(data=folder / "images.npz", importance=importance)
    assert fitted < 1
    if importance not in ("refit", "activation"):
        assert fitted < error(importance=importance)


def test_the_seed_decides():
    def random(seed):
        return prune(digits.MODEL, 0.5, importance="random", seed=seed).model.graph.SerializeToString()

    assert random(1) == random(1)
    assert random(1) != random(2)


def test_layers_that_are_kept():
    pruned = prune(digits.MODEL, 0.5, keep=["blocks.0.*", "fc"])
    before = {tensor.name: tuple(tensor.dims) for tensor in pruned.original.graph.initializer}
    after = {tensor.name: tuple(tensor.dims) for tensor in pruned.model.graph.initializer}
    assert before["blocks.0.conv1.weight"] == after["blocks.0.conv1.weight"]
    assert before["fc.weight"] == after["fc.weight"]
    assert before["blocks.4.conv1.weight"] != after["blocks.4.conv1.weight"]


@pytest.mark.parametrize(
    "settings",
    [
        {"ratio": 0.0},
        {"ratio": 1.0},
        {"ratio": float("nan")},
        {"ratio": 0.5, "multiple": 0},
        {"ratio": 0.5, "importance": "size"},
        {"ratio": 0.5, "importance": "activation"},
        {"ratio": 0.5, "keep": ["nothing*"]},
    ],
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(InputError):
        prune(digits.MODEL, **settings)


def test_rounding_may_leave_nothing_to_take():
    with pytest.raises(NothingToPruneError, match="--round 128"):
        prune(digits.MODEL, 0.5, multiple=128)
    with pytest.raises(NothingToPruneError, match=r"--ratio 0\.001"):
        prune(digits.MODEL, 0.001)
