"""How far the outputs of a net are from those of the original."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import onnx

from ..features import LIVE, features_of
from .activations import Feeds, activations, as_feeds
from .raw_outputs import raw_outputs

__all__ = ["OutputDeviation"]


class OutputDeviation:
    """How far a net's outputs are from the original's: squared error relative to their variance over samples.

    Each feature of an output of several axes is measured by its own variance (see `features_of`). Of outputs that a
    Softmax or Sigmoid makes, what it reads is compared: afterwards large errors look small.
    """

    def __init__(self, model: onnx.ModelProto, images: np.ndarray | Feeds, *, threads: int = 0) -> None:
        """
        Raises:
            DataError: data that does not fit the model's inputs.
        """
        self._model = model
        self._tensors = raw_outputs(model)
        self._feeds = as_feeds(model, images)
        self._threads = threads

    @cached_property
    def _wanted(self) -> dict[str, np.ndarray]:
        """Of the original: not before it is asked for, since a search that knows all errors never does."""
        return self._outputs(self._model)

    def __call__(self, net: onnx.ModelProto) -> float:
        """Mean over the floating-point outputs: 0 is the original, 1 as good as a constant."""
        shares = []
        for name, got in self._outputs(net).items():
            wanted = self._wanted[name]
            variance = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0).ravel()
            error = ((got - wanted) ** 2).sum(axis=0).ravel()
            features = features_of(wanted.shape[1:])
            if features is None:
                features = np.zeros(variance.size, int)
            whole, missed = np.bincount(features, variance), np.bincount(features, error)
            varies = whole > LIVE * whole.max(initial=0.0)
            if varies.any():
                shares.append(float(np.mean(missed[varies] / whole[varies])))
        return float(np.mean(shares)) if shares else 0.0

    def _outputs(self, net: onnx.ModelProto) -> dict[str, np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {}
        for values in activations(net, self._tensors, self._feeds, threads=self._threads):
            for name, array in values.items():
                if np.issubdtype(array.dtype, np.floating):
                    parts.setdefault(name, []).append(array.astype(np.float32))
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}
