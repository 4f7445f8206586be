"""Running a model piece by piece over all calibration samples, so that a change in one layer does not cost a whole pass.

The tensors that cross the frontier between what has run and what has not are held in memory. Reading runs forward from
there; advancing moves the frontier, as long as what it would have to hold fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.helper import make_graph, make_model, make_tensor_value_info, np_dtype_to_tensor_dtype

from ..errors import DataError
from ..graph.protos import captured
from .activations import Feeds, batches, fixed_batch, open_session, sample_count

__all__ = ["Tape"]

_LARGEST_BATCH = 64
_FEWEST_BATCHES = 8
"""Who fits on some batches and tests on others needs several."""
_INNER = 64
"""Rough size of all tensors inside a piece, in sizes of the model's input: bounds the batch."""


class Tape:
    """One model over one set of samples, run up to a frontier between two nodes."""

    def __init__(self, model: onnx.ModelProto, feeds: Feeds, *, memory: int, threads: int = 0) -> None:
        """
        Args:
            memory: MiB that may be held at the frontier.
            threads: for onnxruntime; 0 is its default.

        Raises:
            DataError: fewer samples than the model's fixed batch size.
        """
        self._nodes = list(model.graph.node)
        self._opsets, self._ir = list(model.opset_import), model.ir_version
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made = {name: index for index, node in enumerate(self._nodes) for name in node.output if name}
        self._budget = memory * 2**20
        self._threads = threads
        sample = sum(array[:1].nbytes for array in feeds.values() if array.ndim)
        fixed, count = fixed_batch(model), sample_count(feeds)
        if fixed is not None and count < fixed:
            raise DataError(f"the model takes batches of {fixed} samples, and there are {count}")
        largest = min(_LARGEST_BATCH, ceil(count / _FEWEST_BATCHES), self._budget // (4 * _INNER * sample))
        size = fixed or max(1, largest)
        self._held = [batch for batch in batches(feeds, size) if fixed is None or sample_count(batch) == fixed]
        self._frontier = 0
        self.samples = sum(sample_count(batch) for batch in self._held)

    def made(self, tensor: str) -> int:
        """Index of the node that makes the tensor; -1 for inputs of the model."""
        return self._made.get(tensor, -1)

    def replace(self, values: Mapping[str, np.ndarray]) -> None:
        """Initializers for the nodes that have not run yet."""
        self._weights.update({name: numpy_helper.from_array(array, name) for name, array in values.items()})

    def read(self, tensors: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """Values of the tensors, batch by batch. They are at the frontier or behind it."""
        yield from self._run(tensors, self._held)

    def advance(self, index: int) -> None:
        """Move the frontier to just before node `index`, unless what is alive there exceeds the memory."""
        if index <= self._frontier:
            return
        live = self._live(index)
        first = next(self._run(live, self._held[:1]))
        if sum(array.nbytes for array in first.values()) * len(self._held) > self._budget:
            return
        for place, values in enumerate(self._run(live, self._held)):
            self._held[place] = values
        self._frontier = index

    def _live(self, index: int) -> list[str]:
        """What nodes from `index` on read of what is made before."""
        names: dict[str, None] = {}
        for node in self._nodes[index:]:
            names.update(dict.fromkeys(_reads(node)))
        return [n for n in names if n in self._held[0] or (n in self._made and self._frontier <= self._made[n] < index)]

    def _run(self, tensors: Sequence[str], held: Sequence[Mapping[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        computed = [name for name in dict.fromkeys(tensors) if name not in held[0]]
        session = self._session(computed, held[0]) if computed else None
        for values in held:
            out = {name: values[name] for name in tensors if name in values}
            if session is not None:
                given = {value.name: values[value.name] for value in session.get_inputs()}
                out.update(zip(computed, session.run(computed, given), strict=True))
            yield out

    def _session(self, tensors: Sequence[str], held: Mapping[str, np.ndarray]) -> ort.InferenceSession:
        """Of the nodes between what is held and `tensors`."""
        wanted, nodes = set(tensors), []
        for node in reversed(self._nodes[self._frontier : max(self._made[name] for name in tensors) + 1]):
            if wanted.intersection(node.output):
                nodes.append(node)
                wanted.update(name for name in _reads(node) if name not in held)
        read = {name for node in nodes for name in _reads(node)}
        inputs = [
            make_tensor_value_info(name, np_dtype_to_tensor_dtype(array.dtype), [None, *array.shape[1:]][: array.ndim])
            for name, array in held.items()
            if name in read
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in tensors]
        weights = [self._weights[name] for name in sorted(read & self._weights.keys())]
        piece = make_graph(list(reversed(nodes)), "piece", inputs, outputs, weights)
        return open_session(make_model(piece, opset_imports=self._opsets, ir_version=self._ir), self._threads)


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names that the node or its subgraphs mention, in a fixed order."""
    return [*node.input, *sorted(captured(node))]
