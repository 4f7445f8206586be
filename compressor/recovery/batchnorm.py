"""BatchNormalization of a slim net: means and variances as they are now, not as they were before channels went."""

from __future__ import annotations

import numpy as np
import onnx

from .activations import Feeds, as_feeds, batches, fixed_batch, sample_count
from .refit import with_weights
from .tape import Tape

__all__ = ["reestimate"]

_BATCH = 64


def reestimate(
    model: onnx.ModelProto, images: np.ndarray | Feeds, *, memory: int = 512, threads: int = 0
) -> onnx.ModelProto:
    """A copy of the model whose BatchNormalizations normalise by the moments of these images.

    One after the other, each with those before it re-estimated: the moments are exact for these images, where a running
    average over batches in training mode (as in Yu and Huang, "Universally Slimmable Networks", ICCV 2019, section 3.3)
    is noisy. Nodes whose mean or variance is computed in the graph, or shared with another node, stay as they are. A
    model without BatchNormalization comes back equal.

    Args:
        images: preprocessed samples, `n x ...`, or one array an input by name.
        memory: MiB of activations that may be held.
        threads: for onnxruntime; 0 is its default.

    Raises:
        DataError: data that does not fit the model's inputs.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    fixed = fixed_batch(model)
    parts = [
        batch for batch in batches(as_feeds(model, images), fixed or _BATCH) if fixed in (None, sample_count(batch))
    ]
    if not parts:
        return with_weights(model, {})
    tape = Tape(model, parts, memory=memory, threads=threads)
    found: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or node.domain:
            continue
        mean, variance = node.input[3:5]
        if any(name not in constants or readers[name] > 1 for name in (mean, variance)):
            continue
        new = dict(zip((mean, variance), _moments(tape, node.input[0]), strict=True))
        tape.replace(new)
        found |= new
    return with_weights(model, found)


def _moments(tape: Tape, tensor: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel (axis 1)."""
    count, total, squares = 0, 0.0, 0.0
    for values in tape.read([tensor], tape.made(tensor)):
        rows = np.moveaxis(values[tensor].astype(np.float64), 1, 0).reshape(values[tensor].shape[1], -1)
        count += rows.shape[1]
        total = total + rows.sum(axis=1)
        squares = squares + (rows**2).sum(axis=1)
    mean = total / count
    return np.float32(mean), np.float32(np.maximum(squares / count - mean**2, 0.0))
