"""File -> model that the rest of ortrim can rely on."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import checker, inliner, numpy_helper, shape_inference
from onnx_graphsurgeon.logger import G_LOGGER

from ..errors import ModelError
from .check import check_content, check_valid, line
from .fold import fold_shape_operands
from .protos import attribute, subgraphs, weights_as_inputs
from .sharing import free_name, is_shared, unshare
from .strided import batch_gathers
from .symbols import name_sizes

__all__ = ["ensure_loaded", "load", "normalize", "read"]

_ROUNDS = 16  # folding a shape can make the next shape known; most graphs settle after one or two
_KEPT = {  # folding these would undo a quantization, or make a constant of noise
    *("DequantizeLinear", "QuantizeLinear"),
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"),
    *("SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SplitToSequence"),  # lists are no tensors
}
_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
_UNINFERRED = {"GroupNormalization", "MeanVarianceNormalization"}  # onnx infers nothing; they keep type and shape


def load(source: str | os.PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
    """A checked model in the form that `analyze` and `slim` work on.

    Constants and shape arithmetic are folded, local functions inlined, shapes inferred, every node named. Names and
    dynamic axes of inputs and outputs are kept. Initializers are no longer listed as graph inputs (onnxruntime would
    not treat them as constants). Every use of a shared initializer has its own copy; `finish` shares equal copies
    again. The argument is left as it is.

    Raises:
        ModelError: missing, empty or damaged file, not ONNX, an operator set older than 7, an invalid graph.
    """
    if isinstance(source, onnx.ModelProto):
        check_content(source, "the model")
        if _external(source):
            raise ModelError("the model's weights lie in other files: load it by its path")
        check_valid(weights_as_inputs(source), "the model")
        return normalize(source, "the model")
    return normalize(read(source), os.fspath(source))


def read(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The file as it is, external data included; only checked.

    Raises:
        ModelError: as `load`.
    """
    file = Path(path)
    if not file.exists():
        raise ModelError(f"{path}: no such file")
    if not file.is_file():
        raise ModelError(f"{path}: not a file")
    try:
        if file.stat().st_size == 0:
            raise ModelError(f"{path}: the file is empty")
        model = onnx.load(str(file), load_external_data=False)
        external = _external(model)
        if external:
            onnx.load_external_data_for_model(model, str(file.parent))
    except DecodeError:
        raise ModelError(f"{path}: not an ONNX model, or a truncated one") from None
    except (OSError, checker.ValidationError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {line(error)}") from error
    check_content(model, os.fspath(path))
    check_valid(
        str(file) if external else weights_as_inputs(model), os.fspath(path)
    )  # by path it also follows external data
    return model


def ensure_loaded(source: str | os.PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
    """`source` itself where it came from `load` already (told by its form), else loaded.

    Raises:
        ModelError: as `load`.
    """
    if not isinstance(source, onnx.ModelProto):
        return load(source)
    graph = source.graph
    names = {node.name for node in graph.node}
    shaped = {value.name for value in (*graph.value_info, *graph.output)}
    constants = {tensor.name for tensor in graph.initializer}
    as_loaded = (
        len(names) == len(graph.node)
        and "" not in names
        and not source.functions
        and not any(value.name in constants for value in graph.input)
        and all(node.op_type != "Constant" for node in graph.node)
        and all(name in shaped for node in graph.node for name in node.output[:1] if name)
        and not is_shared(source)
    )
    return source if as_loaded else load(source)


def normalize(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """What `load` does after reading; `name` is for messages."""
    model = inliner.inline_local_functions(model) if model.functions else _copy(model)
    _drop_initializer_inputs(model)
    _name_nodes(model)
    _spell_out(model.graph)
    _drop_claims(model)
    try:
        model = _infer(_fold(model))
        for _ in range(_ROUNDS):
            if not _fold_sizes(model):
                break
            model = _infer(_fold(model))
    except (shape_inference.InferenceError, checker.ValidationError, ValueError, gs.OnnxGraphSurgeonException) as error:
        raise ModelError(f"{name}: invalid ONNX: {line(error)}") from error
    unshare(model)
    return model


def _fold_sizes(model: onnx.ModelProto) -> bool:
    """What follows from sizes alone, in place, until nothing more does; True when anything changed."""
    for turn in range(_ROUNDS):
        if not batch_gathers(model) and not fold_shape_operands(model):
            return turn > 0
        _infer(model)
    return True


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    out = onnx.ModelProto()
    out.CopyFrom(model)
    return out


def weight_files(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files beside a model that hold its weights; none where the model is no ONNX file."""
    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
    except (DecodeError, OSError):
        return ()
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    names = dict.fromkeys(entry.value for entry in entries if entry.key == "location")
    return tuple(Path(path).parent / name for name in names)


def _external(model: onnx.ModelProto) -> bool:
    """Whether weights lie in other files."""
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)


def _drop_initializer_inputs(model: onnx.ModelProto) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)  # IR 3 and older wanted every initializer listed as an input


def _name_nodes(model: onnx.ModelProto) -> None:
    """Unique names, taken from the first output where the exporter gave none: messages and groups rest on them."""
    uses = Counter(node.name for node in model.graph.node)
    taken = {name for name, count in uses.items() if count == 1}
    for node in model.graph.node:
        if not node.name or uses[node.name] > 1:
            wish = f"{node.op_type}:{next((name for name in node.output if name), '')}"
            node.name = wish if wish not in taken else free_name(wish, taken)
            taken.add(node.name)


def _spell_out(graph: onnx.GraphProto) -> None:
    """Constants given as numbers become tensors: graphsurgeon would make float64 of a `value_float`."""
    for node in graph.node:
        for body in subgraphs(node):
            _spell_out(body)
        for key, dtype in _NUMBERS.items() if node.op_type == "Constant" else ():
            value = attribute(node, key)
            if value is not None:
                tensor = numpy_helper.from_array(np.array(value, dtype=dtype))
                node.attribute[0].CopyFrom(onnx.helper.make_attribute("value", tensor))


def _fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constant folding and removal of dead nodes by onnx-graphsurgeon, with the model's own header kept."""
    onnxruntime.set_default_logger_severity(3)  # graphsurgeon folds with it; its warnings are not the user's concern
    with G_LOGGER.suppress():  # it prints on standard output
        graph = gs.import_onnx(model)
        # Its folding of shapes ignores Shape's start and end, and drops fractions (int(height * 1.5)): see fold.py.
        graph.fold_constants(fold_shapes=False, should_exclude_node=lambda node: node.op in _KEPT)
        graph.cleanup(remove_unused_graph_inputs=False).toposort()
        try:
            folded = gs.export_onnx(graph, do_type_check=False)
        except TypeError as error:  # a folded constant that holds text
            raise ValueError(f"constants that hold text cannot be read ({error})") from error
    for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
        setattr(folded, field, getattr(model, field))
    for field in ("opset_import", "metadata_props"):
        getattr(folded, field).__delitem__(slice(None))
        getattr(folded, field).extend(getattr(model, field))
    # graphsurgeon drops symbols and sub-types it does not model: the interface stays the file's own, to the letter.
    for field in ("input", "output"):
        getattr(folded.graph, field).__delitem__(slice(None))
        getattr(folded.graph, field).extend(getattr(model.graph, field))
    return folded


def _infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Shapes inferred anew, in place."""
    _drop_claims(model)
    bare = weights_as_inputs(model)
    for node in bare.graph.node:
        if node.op_type in _UNINFERRED:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    inferred = shape_inference.infer_shapes(bare, data_prop=True).graph.value_info
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred)
    name_sizes(model)
    return model


def _drop_claims(model: onnx.ModelProto) -> None:
    """What the file says of inner tensors is believed only where nothing else can: outputs of unknown operators."""
    unknown = (n for n in model.graph.node if not onnx.defs.has(n.op_type, "" if n.domain == "ai.onnx" else n.domain))
    names = {name for node in unknown for name in node.output}
    for place in reversed(range(len(model.graph.value_info))):
        if model.graph.value_info[place].name not in names:
            del model.graph.value_info[place]
