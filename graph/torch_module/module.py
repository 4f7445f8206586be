"""The torch module that runs an ONNX graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
import torch
from torch import Tensor, nn

from ...errors import DataError
from ..protos import opset, tensor_shapes
from ..stored import stored_weights
from . import operators as _operators  # noqa: F401  (fills the registry)
from .batch import Batch, follow_batch
from .builder import Builder, Catalog, readers
from .naming import Container, paths
from .node import Facts
from .registry import Context
from .stored import latents
from .trainable import trainable
from .values import as_tensor, declared, torch_type

__all__ = ["OnnxModule"]


class OnnxModule(nn.Module):
    """Computes what the graph does, with gradients.

    `module(x, ...)` takes the graph's inputs in their order, or by name as one mapping, and gives a tensor, or a tuple
    of them where the graph has several outputs. Initializers are parameters or buffers (`trainable` says which); where
    their names permit it, they have these names in `named_parameters` and `state_dict`, and `initializers` has all of
    them by their own. `train()` lets BatchNormalization use and move its statistics; Dropout stays the identity unless
    `dropout` is set, since most exports have lost theirs and a net should not train with some of it.
    """

    def __init__(self, model: onnx.ModelProto, parameters: Collection[str] = ()) -> None:
        """
        Args:
            model: in the form that `load` gives.
            parameters: see `to_torch`.

        Raises:
            ModelError: an operator or type that torch lacks; the message names the node.
        """
        super().__init__()
        graph = model.graph
        self.dropout = False
        """Whether the graph's Dropout nodes drop in training."""
        self.input_names = tuple(value.name for value in graph.input)
        self.output_names = tuple(value.name for value in graph.output)
        stored = stored_weights(model)
        quantized = latents(model, stored)
        trained = trainable(model, {name: item for name, item in stored.items() if name in quantized})
        trained |= {tensor.name for tensor in model.graph.initializer if tensor.name in parameters}
        quantized = {name: item for name, item in quantized.items() if item.tensor.name in trained}
        self.quantized = frozenset(item.tensor.name for item in quantized.values())
        """Parameters that stand for integers of the file."""
        statistics = _statistics(model)
        self.learned = trained | statistics
        """Initializers that training moves: parameters, and means and variances of BatchNormalization."""
        shapes = tensor_shapes(model)
        self._batch: Batch = follow_batch(model, shapes)
        facts = Facts(
            {item.domain: item.version for item in model.opset_import} | {"": opset(model)},
            shapes,
            _types(model),
            readers(graph),
            self._batch.operands,
            frozenset(tensor.name for tensor in graph.initializer),
        )
        catalog = Catalog(
            {tensor.name: tensor for tensor in graph.initializer},
            self.learned,
            {name: item.kernel() for name, item in quantized.items()},
        )
        builder = Builder(catalog, facts)
        self._program = builder.build(graph)
        self._shapes = tuple(shapes.get(name) for name in self.input_names)
        self._casts = tuple(
            (place, declared(kind))
            for place, kind in enumerate(value.type.tensor_type.elem_type for value in graph.output)
            if kind and declared(kind) != torch_type(kind)
        )
        values = {item.tensor.name: item.value() for item in quantized.values()}
        self._places: dict[str, tuple[nn.Module, str]] = {}
        self._sources: tuple[tuple[nn.Module, str], ...] = ()  # every attribute is there before names are given
        self._hold(catalog, trained, values)
        self._sources = tuple(self._places[name] for name, _ in builder.outside)

    def forward(self, *inputs: Tensor | Mapping[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        """The graph's outputs in their order; a tensor where there is one.

        Raises:
            DataError: too many or too few inputs, or of another size than the graph takes.
        """
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            inputs = self._ordered(inputs[0])
        self._check(inputs)
        constants = []
        for owner, name in self._sources:
            found = owner._parameters.get(name)
            constants.append(owner._buffers[name] if found is None else found)
        device = constants[0].device if constants else inputs[0].device if inputs else torch.device("cpu")
        context = Context(self.training, device, self.training and self.dropout)
        outputs = self._program.run([*inputs, *constants], context)
        if self._casts:
            outputs = list(outputs)
            for place, kind in self._casts:
                outputs[place] = outputs[place].to(kind)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    @property
    def batch(self) -> str:
        """`any` where the graph fixes the batch and the module does not, or why it is fixed; empty where it is free."""
        return "any" if self._batch.inputs else self._batch.reason

    @property
    def initializers(self) -> dict[str, Tensor]:
        """Parameters and buffers by the names of the graph's initializers."""
        return {name: getattr(owner, key) for name, (owner, key) in self._places.items()}

    def _hold(self, catalog: Catalog, trained: frozenset[str], values: Mapping[str, Tensor]) -> None:
        """Register every constant of the catalog."""
        for name, path in paths(catalog.tensors, self).items():
            owner: nn.Module = self
            for part in path[:-1]:
                if part not in owner._modules:
                    owner.add_module(part, Container())
                owner = owner._modules[part]
            value = values[name] if name in values else as_tensor(catalog.tensors[name])
            if name in trained:
                owner.register_parameter(path[-1], nn.Parameter(value))
            else:
                owner.register_buffer(path[-1], value)
            self._places[name] = (owner, path[-1])

    def _ordered(self, named: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        missing = [name for name in self.input_names if name not in named]
        unknown = [name for name in named if name not in self.input_names]
        if missing or unknown:
            raise DataError(f"the graph's inputs are {', '.join(self.input_names)}; got {', '.join(named) or 'none'}")
        return tuple(named[name] for name in self.input_names)

    def _check(self, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs) != len(self.input_names):
            raise DataError(f"the graph takes {len(self.input_names)} inputs, got {len(inputs)}")
        for name, value, shape in zip(self.input_names, inputs, self._shapes, strict=True):
            if shape is None:
                continue
            sizes = tuple(value.shape)
            free = self._batch.free(name)
            fits = len(sizes) == len(shape) and all(
                not isinstance(wanted, int) or size == wanted or axis == free
                for axis, (size, wanted) in enumerate(zip(sizes, shape, strict=True))
            )
            if not fits:
                shown = ", ".join(str(size) if size is not None else "?" for size in shape)
                why = f"; {self._batch.reason}" if self._batch.reason and sizes[1:] == tuple(shape[1:]) else ""
                raise DataError(f"input {name!r} has the shape ({shown}), got {sizes}{why}")


def _types(model: onnx.ModelProto) -> dict[str, int]:
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    return types


def _statistics(model: onnx.ModelProto) -> frozenset[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = (node for node in model.graph.node if node.op_type == "BatchNormalization")
    return frozenset(name for node in nodes for name in node.input[3:5] if name in constants)
