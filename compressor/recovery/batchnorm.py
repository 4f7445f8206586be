"""BatchNormalization of a slim net: statistics for what it sees now, not for what came before channels went."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx

from ...graph.group import ChannelAnalysis
from ...graph.protos import attribute
from .activations import Feeds, as_feeds, batches, fixed_batch, sample_count
from .consumers import weights_of
from .refit import with_weights
from .tape import Tape

__all__ = ["reestimate"]

_BATCH = 64


@dataclass(frozen=True)
class _Normalization:
    """What a BatchNormalization computes, each float64 (channels,): `scale * (x - mean) / sqrt(variance) + shift`."""

    scale: np.ndarray
    shift: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    """With the epsilon."""
    epsilon: float

    @classmethod
    def of(cls, node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> _Normalization:
        epsilon = cast("float", attribute(node, "epsilon", 1e-5))
        scale, shift, mean, variance = (arrays[name].astype(np.float64) for name in node.input[1:5])
        return cls(scale, shift, mean, variance + epsilon, epsilon)

    def kept(self, channels: np.ndarray) -> _Normalization:
        parts = (part[channels] for part in (self.scale, self.shift, self.mean, self.variance))
        return _Normalization(*parts, self.epsilon)

    def given(self, moments: _Moments) -> _Moments:
        """The moments of the output."""
        slope = self.scale / np.sqrt(self.variance)
        return _Moments(slope * (moments.mean - self.mean) + self.shift, slope**2 * moments.variance)


@dataclass(frozen=True)
class _Moments:
    """Of each channel, float64 (channels,)."""

    mean: np.ndarray
    variance: np.ndarray


def reestimate(
    model: onnx.ModelProto,
    small: onnx.ModelProto,
    removal: Mapping[str, Collection[int]],
    images: np.ndarray | Feeds,
    *,
    analysis: ChannelAnalysis,
    memory: int = 1024,
    threads: int = 0,
) -> onnx.ModelProto:
    """A copy of `small` whose BatchNormalizations give each channel the mean and variance that the original's does.

    One after the other, each with those before it re-estimated, and exact for these images, where a running average
    over batches in training mode (as in Yu and Huang, "Universally Slimmable Networks", ICCV 2019, section 3.3) is
    noisy. They are not the slim net's own statistics: images that are not like those that the original was trained on
    it does not normalise either, and what it does with them is what counts. (A segmenter of road scenes that took the
    statistics of photographs agreed with the original about 16 % of their pixels.) Nodes whose mean or variance is
    computed in the graph, or shared with another node, stay as they are, and the variances of channels that do not
    vary. A model without BatchNormalization comes back equal.

    Args:
        model: the original, as `load` returned it.
        small: `slim(..., removal)`, refitted or not.
        images: preprocessed samples, `n x ...`, or one array an input by name.
        memory: MiB of activations that may be held, half of it of the original.
        threads: for onnxruntime; 0 is its default.

    Raises:
        DataError: data that does not fit the model's inputs.
    """
    fixed = fixed_batch(model)
    parts = [
        batch for batch in batches(as_feeds(model, images), fixed or _BATCH) if fixed in (None, sample_count(batch))
    ]
    own = {node.name: node for node in _normalizations(model)}
    theirs = [node for node in _normalizations(small) if node.name in own]
    if not parts or not theirs:
        return with_weights(small, {})
    before, now = (
        weights_of(net, {name for node in _normalizations(net) for name in node.input[1:5]}) for net in (model, small)
    )
    kept_of = analysis.kept(removal)
    whole, thin = (Tape(net, parts, memory=memory // 2, threads=threads) for net in (model, small))
    found: dict[str, np.ndarray] = {}
    for node in theirs:
        original, normalization = _Normalization.of(own[node.name], before), _Normalization.of(node, now)
        kept = kept_of.along(own[node.name].input[0], 1)
        channels = np.arange(len(original.mean)) if kept is None else kept
        if len(channels) != len(normalization.mean):
            continue
        shown = _moments(whole, own[node.name].input[0])
        goal = original.kept(channels).given(_Moments(shown.mean[channels], shown.variance[channels]))
        mean, variance = _statistics(normalization, _moments(thin, node.input[0]), goal)
        new = {node.input[3]: mean, node.input[4]: variance}
        thin.replace(new)
        found |= new
    return with_weights(small, found)


def _statistics(normalization: _Normalization, moments: _Moments, goal: _Moments) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance by which what comes in with `moments` goes out with the moments of `goal`."""
    scale, shift, epsilon = normalization.scale, normalization.shift, normalization.epsilon
    varies = (goal.variance > 0) & (moments.variance > 0) & (scale != 0)
    wanted = np.divide(scale**2 * moments.variance, goal.variance, out=normalization.variance.copy(), where=varies)
    variance = np.maximum(wanted, epsilon)
    slope = scale / np.sqrt(variance)
    mean = np.divide(shift - goal.mean, slope, out=normalization.mean - moments.mean, where=slope != 0) + moments.mean
    return mean.astype(np.float32), (variance - epsilon).astype(np.float32)


def _normalizations(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Those whose statistics are weights of their own."""
    constants = {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    return [
        node
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
        and not node.domain
        and constants.issuperset(node.input[1:5])
        and all(readers[name] == 1 for name in node.input[3:5])
    ]


def _moments(tape: Tape, tensor: str) -> _Moments:
    """Of each channel (axis 1)."""
    count, total, squares = 0, 0.0, 0.0
    for values in tape.read([tensor], tape.made(tensor)):
        rows = np.moveaxis(values[tensor].astype(np.float64), 1, 0).reshape(values[tensor].shape[1], -1)
        count += rows.shape[1]
        total = total + rows.sum(axis=1)
        squares = squares + (rows**2).sum(axis=1)
    mean = total / count
    return _Moments(mean, np.maximum(squares / count - mean**2, 0.0))
