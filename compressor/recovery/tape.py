"""Running a model piece by piece over all calibration samples: a change in one layer must not cost a whole pass.

The tensors that cross the frontier between what has run and what has not are held, in memory where they fit and else on
disk. Reading runs forward from there, advancing moves the frontier: without that, every layer of a net of large images
would run all those before it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.helper import make_graph, make_model, make_tensor_value_info, np_dtype_to_tensor_dtype

from ...graph.protos import captured
from .activations import Feeds, open_session, outputs_of
from .spill import Spill

__all__ = ["Tape"]

log = logging.getLogger(__name__)

_FAR = 12
"""Nodes that the frontier moves by at least where it means writing to disk: a few are sooner run again."""


class Tape:
    """One model over one set of samples, run up to a frontier between two nodes."""

    def __init__(
        self, model: onnx.ModelProto, batches: Sequence[Feeds], *, memory: int = 1024, threads: int = 0
    ) -> None:
        """
        Args:
            batches: the model's inputs.
            memory: MiB that may be held in memory at the frontier.
            threads: for onnxruntime; 0 is its default.
        """
        self._nodes = list(model.graph.node)
        self._reads = [_reads(node) for node in self._nodes]
        self._opsets, self._ir = list(model.opset_import), model.ir_version
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made = {name: index for index, node in enumerate(self._nodes) for name in node.output if name}
        self._budget = memory * 2**20
        self._threads = threads
        self._held: list[Feeds] = list(batches)
        self._shapes = [_shapes(batch) for batch in self._held]
        self._types = {name: array.dtype for name, array in self._held[0].items()}
        self._frontier = 0

    def made(self, tensor: str) -> int:
        """Index of the node that makes the tensor; -1 for inputs of the model."""
        return self._made.get(tensor, -1)

    def inputs(self, tensor: str) -> list[str]:
        """What the node that makes the tensor reads."""
        return list(self._nodes[self._made[tensor]].input)

    def weight(self, name: str) -> np.ndarray | None:
        """An initializer as it is now; None for other tensors."""
        tensor = self._weights.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def replace(self, values: Mapping[str, np.ndarray]) -> None:
        """Initializers for the nodes that have not run yet."""
        self._weights.update({name: numpy_helper.from_array(array, name) for name, array in values.items()})

    def read(
        self, tensors: Sequence[str], frontier: int = 0, *, given: Mapping[str, np.ndarray] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Values of the tensors, batch by batch.

        Args:
            tensors: at the frontier or behind it.
            given: values that tensors behind `frontier` have here, in place of what their nodes would compute.
            frontier: node before which the frontier is moved by the way; it stays where it was if that is further, or
                if what is alive there exceeds the memory and is not far. What lies before it can be read no more.
        """
        live = self._live(frontier) if frontier > self._frontier else []
        moves, spill = False, None
        for place, values in enumerate(self._run([*tensors, *live], given or {})):
            if live and place == 0:
                fits = sum(values[name].nbytes for name in live) * len(self._held) <= self._budget
                moves = fits or frontier - self._frontier >= _FAR
                spill = None if fits or not moves else _spill()
                self._types = {name: values[name].dtype for name in live} if moves else self._types
            if moves:
                alive = {name: values[name] for name in live}
                self._shapes[place] = _shapes(alive)
                self._held[place], spill = _kept(alive, spill)
            yield {name: values[name] for name in tensors}
        if moves:
            self._frontier = frontier

    def _live(self, index: int) -> list[str]:
        """What nodes from `index` on read of what is made before."""
        names: dict[str, None] = {}
        for read in self._reads[index:]:
            names.update(dict.fromkeys(read))
        return [n for n in names if n in self._held[0] or (n in self._made and self._frontier <= self._made[n] < index)]

    def _run(self, tensors: Sequence[str], given: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        held = self._held[0]
        computed = [name for name in dict.fromkeys(tensors) if name not in held]
        session = self._session(computed, held, given) if computed else None
        for values in self._held:
            out = {name: values[name] for name in tensors if name in values}
            if session is not None:
                out.update(outputs_of(session, computed, values))
            yield out

    def _session(
        self, tensors: Sequence[str], held: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]
    ) -> ort.InferenceSession:
        """Of the nodes between what is held or given and `tensors`."""
        wanted, nodes, read = set(tensors), [], set()
        for place in range(max(self._made[name] for name in tensors), self._frontier - 1, -1):
            if wanted.intersection(self._nodes[place].output):
                nodes.append(self._nodes[place])
                read.update(self._reads[place])
                wanted.update(name for name in self._reads[place] if name not in held and name not in given)
        inputs = [
            make_tensor_value_info(name, np_dtype_to_tensor_dtype(self._types[name]), self._shared_sizes(name))
            for name in held
            if name in read
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in tensors]
        weights = [self._weights[name] for name in sorted(read & self._weights.keys())]
        weights += [numpy_helper.from_array(given[name], name) for name in sorted(read & given.keys())]
        piece = make_graph(list(reversed(nodes)), "piece", inputs, outputs, weights)
        return open_session(make_model(piece, opset_imports=self._opsets, ir_version=self._ir), self._threads)

    def _shared_sizes(self, name: str) -> list[int | None]:
        """Sizes that are the same in all batches: the last one may be smaller, and recurrent nets count samples on
        axis 1."""
        shapes = zip(*(shapes[name] for shapes in self._shapes), strict=True)
        return [sizes[0] if len(set(sizes)) == 1 else None for sizes in shapes]


def _shapes(values: Feeds) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in values.items()}


def _kept(alive: Feeds, spill: Spill | None) -> tuple[Feeds, Spill | None]:
    """The arrays where they are to be kept, and where those of the next batch are."""
    if spill is None:
        return alive, None
    try:
        return spill.keep(alive), spill
    except OSError as error:
        _warn(error)
        return alive, None


def _spill() -> Spill | None:
    try:
        return Spill()
    except OSError as error:
        _warn(error)
        return None


def _warn(error: OSError) -> None:
    log.warning("activations are kept in memory: they could not be written to TMPDIR (%s)", error)


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names that the node or its subgraphs mention, in a fixed order."""
    return [*node.input, *sorted(captured(node))]
