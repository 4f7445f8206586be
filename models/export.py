"""A PyTorch module to an ONNX file that checks clean, computes what the module does, and appears whole or never."""

from __future__ import annotations

import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from ..errors import InputError, OutputError, VerificationError
from .foreign import refusing

__all__ = ["Exporter", "check_writable", "export"]

log = logging.getLogger(__name__)

Exporter = Literal["default", "legacy"]
Batch = int | Literal["dynamic"]

EXAMPLE_BATCH = 2
"""Images in the example of a dynamic batch: torch.export takes a size of 1 for a constant."""
CHECKED_BATCHES = (1, 3)
OLDEST_OPSET = 18
"""The default exporter has no operators older than these, and converting a graph downwards mostly fails."""
TOLERANCE = 1e-3
"""Largest difference between torch and onnxruntime, as a share of the largest output."""
SINGLE_FILE_LIMIT = 2_000_000_000
"""Bytes of weights that surely fit a protobuf message (2 GiB) along with the graph."""


def export(
    module: nn.Module,
    output: str | Path,
    shape: Sequence[int],
    *,
    batch: Batch = "dynamic",
    opset: int | None = None,
    exporter: Exporter = "default",
    force: bool = False,
) -> Path:
    """Write `module` in eval mode as ONNX; the input is called `input`, a single output `output`.

    With the default exporter, layers are named after the module that holds their weights (`layer1.0.conv1`). Weights of
    more than 2 GB go to a second file beside the first, `NAME.onnx.data`.

    Args:
        module: takes one float tensor; returns a tensor, or a tuple or dict of them.
        output: the file to write.
        shape: of one input, without the batch.
        batch: `dynamic`, or the fixed number of inputs.
        opset: version of the ONNX operators; left out, the exporter's own.
        exporter: `default` goes through torch.export; `legacy` through TorchScript, for nets that the default refuses.
        force: write over an existing file.

    Raises:
        OutputError: the output exists, or its folder cannot be written.
        InputError: the module does not take such an input, or the exporter cannot express it in valid ONNX.
        VerificationError: the file computes something else than the module.
    """
    output = Path(output)
    check_writable(output, force=force)
    if isinstance(batch, int) and batch < 1:
        raise InputError(f"the batch must be 1 or more, or 'dynamic', got {batch}")
    if opset is not None and not 7 <= opset <= onnx.defs.onnx_opset_version():
        raise InputError(f"opset {opset}: this version of onnx knows 7 to {onnx.defs.onnx_opset_version()}")
    if exporter == "default" and opset is not None and opset < OLDEST_OPSET:
        raise InputError(
            f"opset {opset}: the default exporter writes {OLDEST_OPSET} and newer, the legacy one older ones"
        )
    example = _example(shape, EXAMPLE_BATCH if batch == "dynamic" else batch)
    modes = {part: part.training for part in module.modules()}
    try:
        names = list(_outputs(module.eval(), example))
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            draft = Path(folder) / output.name
            with _quiet():
                convert = _convert_legacy if exporter == "legacy" else _convert
                convert(module, draft, example, names, dynamic=batch == "dynamic", opset=opset)
            _check(draft, opset)
            for count in CHECKED_BATCHES if batch == "dynamic" else (batch,):
                _compare(module, draft, _example(shape, count))
            for file in sorted(draft.parent.iterdir(), key=lambda file: file == draft):  # the model itself last
                os.replace(file, output.parent / file.name)
    except OSError as error:
        raise OutputError(f"{output}: cannot write it: {error.strerror or error}") from error
    finally:
        for part, training in modes.items():
            part.training = training
    return output


def check_writable(output: Path, *, force: bool) -> None:
    """Refuse an output that exists or cannot be written, before any work is done for it.

    Raises:
        OutputError: it exists and `force` is not set, or its folder is missing or read-only.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a folder; name a file")
    if output.exists() and not force:
        raise OutputError(f"{output} exists already; --force writes over it")
    if not output.parent.is_dir():
        raise OutputError(f"{output}: the folder {output.parent} does not exist")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: the folder {output.parent} cannot be written")


def _example(shape: Sequence[int], batch: int) -> Tensor:
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(batch))


def _outputs(module: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """What the module makes of the example, by the names that the graph's outputs will have."""
    with (
        refusing(
            f"{type(module).__name__} does not take an input of shape {tuple(example.shape)}",
            hint="--size sets H and W",
        ),
        torch.inference_mode(),
    ):
        result = module(example)
    match result:
        case Tensor():
            named = {"output": result}
        case Mapping():
            named = dict(result)
        case tuple() | list():
            named = {f"output_{index}": value for index, value in enumerate(result)}
        case _:
            named = {}
    if not named or not all(isinstance(value, Tensor) for value in named.values()):
        raise InputError(
            f"{type(module).__name__} returns {type(result).__name__}, not tensors; "
            "trace a factory whose net returns a tensor, or a tuple or dict of tensors"
        )
    return named if len(named) > 1 else dict(zip(["output"], named.values(), strict=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """Send the exporters' progress and warnings to the log: standard output is for results."""
    chatter = io.StringIO()
    with redirect_stdout(chatter), warnings.catch_warnings(record=True) as caught:
        try:
            yield
        finally:
            for line in [*chatter.getvalue().splitlines(), *(str(warning.message) for warning in caught)]:
                log.debug("%s", line)


def _convert(
    module: nn.Module, path: Path, example: Tensor, names: list[str], *, dynamic: bool, opset: int | None
) -> None:
    what = f"torch.onnx.export cannot express {type(module).__name__}"
    with refusing(what, hint="a fixed batch or the legacy exporter may help"), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=["input"],
            output_names=names,
            dynamic_shapes=({0: "batch"},) if dynamic else None,
            opset_version=opset,
        )
    assert program is not None  # it is None with dynamo=False only
    _tidy(program)
    weights = [value.const_value for value in program.model.graph.initializers.values()]
    size = sum(weight.nbytes for weight in weights if weight is not None)
    program.save(path, external_data=size > SINGLE_FILE_LIMIT)


def _tidy(program: torch.onnx.ONNXProgram) -> None:
    """Name layers after their module, and drop the exporter's notes, which hold paths and source lines."""
    graph = program.model.graph
    graph.metadata_props.clear()
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
    taken = set()
    for node in graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if weight is None or weight.name is None or not weight.is_initializer():
            continue
        layer = weight.name.removesuffix(".weight")
        if layer != weight.name and layer not in taken:
            node.name = layer
            taken.add(layer)


def _convert_legacy(
    module: nn.Module, path: Path, example: Tensor, names: list[str], *, dynamic: bool, opset: int | None
) -> None:
    what = f"torch.onnx.export(dynamo=False) cannot express {type(module).__name__}"
    with refusing(what), torch.no_grad(), _plain_attention():
        torch.onnx.export(
            module,
            (example,),
            str(path),
            dynamo=False,
            input_names=["input"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ("input", *names)} if dynamic else None,
            opset_version=opset,
        )


@contextmanager
def _plain_attention() -> Iterator[None]:
    """In eval mode torch runs MultiheadAttention as one operator, which TorchScript's exporter does not know."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _check(path: Path, opset: int | None) -> None:
    with refusing(f"{path.name}: the exporter wrote an invalid model"):
        onnx.checker.check_model(str(path), full_check=True)
    imports = onnx.load(str(path), load_external_data=False).opset_import
    written = next(entry.version for entry in imports if entry.domain in ("", "ai.onnx"))
    if opset is not None and written != opset:
        raise InputError(f"opset {opset} was asked for, but this net could only be written in opset {written}")


def _compare(module: nn.Module, path: Path, example: Tensor) -> None:
    """Run the file in onnxruntime beside the module, on a batch of another size than the exporter saw."""
    expected = _outputs(module, example)
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a failure is reported below, in one line
    what = f"{path.name}: onnxruntime cannot run the exported model on a batch of {len(example)}"
    with refusing(what, hint="a fixed batch or the other exporter may help"):
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        results = session.run(list(expected), {"input": example.numpy()})
    for (name, value), result in zip(expected.items(), results, strict=True):
        wanted = value.double().numpy()  # whole numbers and booleans too
        difference = np.abs(wanted - result).max()
        if not difference <= TOLERANCE * max(np.abs(wanted).max(), 1e-6):
            raise VerificationError(
                f"{path.name}: output {name!r} is {difference:.3g} off the PyTorch net's on a batch of {len(example)}"
            )
