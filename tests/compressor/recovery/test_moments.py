"""Moments against brute force, in whatever pieces they were gathered."""

import numpy as np
import pytest

from ortrim.compressor.recovery.consumers import find_consumers
from ortrim.compressor.recovery.moments import gather
from ortrim.errors import DataError
from ortrim.graph import analyze


def brute_force(model, node, images, run):
    consumer = find_consumers(model)[node]
    columns = consumer.reader.columns(run(model, images, consumer.input)[0]).astype(np.float64)
    mean = columns.mean(axis=2)
    centred = columns - mean[:, :, None]
    return mean, centred @ centred.swapaxes(1, 2) / columns.shape[2]


@pytest.fixture(scope="module")
def analysis(residual):
    return analyze(residual)


def test_all_positions_give_the_exact_moments(residual, analysis, images, run):
    moments = gather(residual, analysis, images, rows_per_column=10**6)
    assert moments.consumers
    for node in moments.consumers:
        mean, covariance = brute_force(residual, node, images, run)
        np.testing.assert_allclose(moments[node].mean, mean, atol=1e-5)
        scale = (covariance + mean[:, :, None] * mean[:, None, :]).max()  # of what float32 had to add up
        np.testing.assert_allclose(moments[node].covariance, covariance, atol=1e-6 * scale)


def test_only_consumers_that_can_lose_channels_are_gathered(residual, analysis, images):
    moments = gather(residual, analysis, images[:8])
    first = next(node.name for node in residual.graph.node if node.output[0] == "first")
    assert first not in moments.consumers
    assert len(moments.consumers) == 5


def test_drawn_positions_come_close(residual, analysis, images):
    every = gather(residual, analysis, images, rows_per_column=10**6)
    some = gather(residual, analysis, images, rows_per_column=20)
    for node in every.consumers:
        difference = np.abs(some[node].covariance - every[node].covariance).max()
        assert some[node].rows <= every[node].rows
        assert difference < 0.5 * every[node].covariance.max()
    assert any(some[node].rows < every[node].rows for node in every.consumers)


def test_the_seed_decides(residual, analysis, images):
    one, same, other = (gather(residual, analysis, images, rows_per_column=4, seed=seed) for seed in (1, 1, 2))
    nodes = list(one.consumers)
    assert all(np.array_equal(one[node].covariance, same[node].covariance) for node in nodes)
    assert any(not np.array_equal(one[node].covariance, other[node].covariance) for node in nodes)


def test_little_memory_takes_more_passes_and_gives_the_same(residual, analysis, images, monkeypatch):
    whole = gather(residual, analysis, images, rows_per_column=10**6)
    monkeypatch.setattr("ortrim.compressor.recovery.moments._BLOCK", 5000)
    pieces = gather(residual, analysis, images, rows_per_column=10**6, memory=0)  # one tensor, one image at a time
    for node in whole.consumers:
        np.testing.assert_allclose(pieces[node].covariance, whole[node].covariance, atol=1e-5)


def test_layers_that_read_one_tensor_alike_share_moments(build, images):
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z) {
        a = Conv<pads=[1,1,1,1]>(x, w) h = Relu(a)
        y = Conv<pads=[1,1,1,1]>(h, v) z = Conv<pads=[1,1,1,1]>(h, u)
    }"""
    model = build(text, {"w": (6, 3, 3, 3), "v": (4, 6, 3, 3), "u": (4, 6, 3, 3)})
    moments = gather(model, analyze(model), images)
    first, second = moments.consumers
    assert moments[first] is moments[second]


def test_wide_layers_mix_channels_at_one_position(residual, analysis, images, run):
    moments = gather(residual, analysis, images, rows_per_column=10**6, max_columns=100)
    node = next(n for n, c in moments.consumers.items() if c.input == "pr")
    values = run(residual, images, "pr")[0].transpose(1, 0, 2, 3).reshape(12, -1)
    np.testing.assert_allclose(moments[node].covariance[0], np.cov(values, bias=True), atol=1e-5)


def test_a_fixed_batch_is_respected(build, images):
    text = "g (float[4,3,8,8] x) => (float[4,5,8,8] y) { a = Conv(x, w) h = Relu(a) y = ConvTranspose(h, v) }"
    model = build(text, {"w": (6, 3, 3, 3), "v": (6, 5, 3, 3)})
    moments = gather(model, analyze(model), images[:10], rows_per_column=10**6)
    exact = gather(model, analyze(model), images[:8], rows_per_column=10**6)
    (node,) = moments.consumers
    assert moments[node].rows == 8 * 64  # two batches of four; the output positions, whatever the input's
    np.testing.assert_allclose(moments[node].covariance, exact[node].covariance, atol=1e-6)
    with pytest.raises(DataError, match="batches of 4"):
        gather(model, analyze(model), images[:3])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"z": np.zeros((2, 3, 8, 8), np.float32)}, "inputs are x"),
        (np.zeros((0, 3, 8, 8), np.float32), "no calibration samples"),
    ],
)
def test_data_that_does_not_fit_is_refused(residual, analysis, feeds, message):
    with pytest.raises(DataError, match=message):
        gather(residual, analysis, feeds)
