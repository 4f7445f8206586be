"""The net as the analysis sees it: its traced graph, and a torch module of that graph, which is what trains.

The module of the graph is trained, not the net that was traced: its parameters carry the names of the graph's
initializers, so that a group of channels is a mask on its parameters and nothing has to be matched up between two nets,
whatever the net's own code looks like. What is trained is then exactly what is written. `export` (and with it `ortrim
trace`) folds BatchNormalization into convolutions; here it is kept, since it has to train.

Which initializers train is told from the graph by what reads them (`trainable`), and that does not find all: a class
token or a table of positions looks like any constant. The net itself knows its parameters, so those that the graph has
under their own names train as well. One that is not in the graph any more, only something computed from it that does
not train (a table whose rows are looked up by fixed numbers), would silently stay as it began: such a net is refused.
"""

from __future__ import annotations

import copy
import io
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, field

import onnx
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from ... import graph
from ...errors import InputError
from ...graph.protos import tensor_shapes
from ...graph.torch_module import OnnxModule
from ...models.build import Net
from ...models.foreign import refusing

__all__ = ["Normalization", "Traced", "trace_for_training"]

EXAMPLE_BATCH = 2
JITTER = 0.01


@dataclass(frozen=True)
class Normalization:
    """One BatchNormalization: the initializers with its statistics, and how much of a batch's training lets in."""

    mean: str
    variance: str
    share: float


@dataclass(frozen=True)
class Traced:
    """A net to train."""

    spec: str
    model: onnx.ModelProto = field(repr=False)
    """As `load` gives it, with the net's first weights."""
    analysis: graph.ChannelAnalysis = field(repr=False)
    module: OnnxModule = field(repr=False)
    classes: int
    normalizations: tuple[Normalization, ...] = field(repr=False)
    notes: tuple[str, ...]


def trace_for_training(net: Net) -> Traced:
    """Trace a net with its BatchNormalization, and make a module of the graph.

    Raises:
        InputError: a net that cannot be traced, does not give one row of class scores an image, or has parameters or
            statistics that would not move.
        ModelError: an operator that torch lacks.
    """
    model, named, more = _named_model(net)
    module = graph.to_torch(model, parameters=more)
    if named:
        own = _state(net.module)
        with torch.no_grad():
            for name, value in module.initializers.items():
                if name in own:
                    value.copy_(own[name])
    model = graph.write_back(model, module)
    return Traced(
        net.spec,
        model,
        graph.analyze(model),
        module,
        _classes(net.spec, model),
        tuple(_normalizations(net.spec, model)),
        tuple(_notes(net)),
    )


def _named_model(net: Net) -> tuple[onnx.ModelProto, bool, frozenset[str]]:
    """The traced net, loaded; whether every weight of it has the name that it has in the net; and which of its
    initializers are parameters although nothing in the graph tells.

    A fresh net has many equal vectors (scales of 1, means of 0), which the exporter merges into one. So a copy is
    traced whose entries all differ, and the values are put in later by their names. Nets whose weights the exporter
    renames are traced as they are; `load` gives what was merged its own copies.
    """
    jittered = copy.deepcopy(net.module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in _state(jittered).values():
            if value.is_floating_point():
                value.add_(JITTER * torch.rand(value.shape, generator=generator))
    exported = _export(net, jittered)
    model = graph.load(exported)
    own = {name: tuple(value.shape) for name, value in _state(net.module).items()}
    learned = graph.to_torch(model).learned
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    more = _overlooked(net, exported, frozenset(shapes), learned)
    if all(own.get(name) == shapes[name] for name in learned):
        return model, True, more
    model = graph.load(_export(net, net.module))
    merged = more - {tensor.name for tensor in model.graph.initializer}
    if merged:
        raise InputError(
            f"{net.spec}: its parameter {min(merged)} equals another one at first, with which the exporter merges it: "
            "start it with values of its own"
        )
    return model, False, more


def _overlooked(
    net: Net, exported: onnx.ModelProto, initializers: frozenset[str], learned: frozenset[str]
) -> frozenset[str]:
    """Parameters of the net that the loaded graph has and would not train.

    Raises:
        InputError: a parameter that it has no more, nor anything that trains in its place.
    """
    used = {tensor.name for tensor in exported.graph.initializer}
    found = set()
    for name, value in net.module.named_parameters():
        if name in learned or name not in used or not value.requires_grad or not value.is_floating_point():
            continue
        if name in initializers:
            found.add(name)
        elif learned.isdisjoint(_computed_from(exported, name)):
            raise InputError(
                f"{net.spec}: its parameter {name} cannot be trained, for the traced graph has only a constant that is "
                "computed from it; where it may stay as it is, set its requires_grad to False"
            )
    return frozenset(found)


def _computed_from(exported: onnx.ModelProto, name: str) -> set[str]:
    """What `load` may put in the place of an initializer: constants that depend on it."""
    constants = {tensor.name for tensor in exported.graph.initializer}
    found = {name}
    for node in exported.graph.node:
        if node.op_type == "Shape" or constants.issuperset(filter(None, node.input)):
            constants.update(node.output)
            if not found.isdisjoint(node.input):
                found.update(node.output)
    return found


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _export(net: Net, module: nn.Module) -> onnx.ModelProto:
    """The module in evaluation mode as ONNX, nothing folded. torch's other exporter has no way to keep
    BatchNormalization that leaves the sizes of the graph fixed."""
    module = copy.deepcopy(module).eval()
    example = torch.rand(EXAMPLE_BATCH, *net.shape, generator=torch.Generator().manual_seed(0))
    file, fast = io.BytesIO(), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator, which the exporter does not know
    try:
        with (
            refusing(f"{net.spec} cannot be traced with an input of shape {tuple(example.shape)}"),
            torch.no_grad(),
            redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (example,),
                file,
                dynamo=False,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return _tidy(onnx.load_from_string(file.getvalue()))


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Layers named after the module that holds their weights, as `export` names them."""
    constants, taken = {tensor.name for tensor in model.graph.initializer}, set()
    for node in model.graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        layer = weight.removesuffix(".weight")
        if weight in constants and layer != weight and layer not in taken:
            node.name = layer
            taken.add(layer)
    return model


def _classes(spec: str, model: onnx.ModelProto) -> int:
    outputs = list(model.graph.output)
    shape = tensor_shapes(model).get(outputs[0].name) if outputs else None
    if len(outputs) != 1 or shape is None or len(shape) != 2 or not isinstance(shape[1], int):
        raise InputError(f"{spec} does not give one row of class scores an image: only classifiers can be trained")
    return shape[1]


def _normalizations(spec: str, model: onnx.ModelProto) -> list[Normalization]:
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and constants.issuperset(node.input[3:5]):
            kept = next((item.f for item in node.attribute if item.name == "momentum"), 0.9)
            if kept == 1.0:  # torch's cumulative average is exported so, too
                raise InputError(
                    f"{spec}: BatchNormalization {node.input[3].removesuffix('.running_mean')} has a momentum of None "
                    "or 0, with which its statistics would never move in the traced graph: give it one, such as 0.1"
                )
            found.append(Normalization(node.input[3], node.input[4], 1.0 - kept))
    return found


def _notes(net: Net) -> list[str]:
    dropping = [
        name
        for name, part in net.module.named_modules()
        if isinstance(part, nn.modules.dropout._DropoutNd | StochasticDepth) and part.p > 0
    ]
    if not dropping:
        return []
    return [f"{net.spec} has dropout ({dropping[0]}, for one): the traced graph has none, so it trains without"]
