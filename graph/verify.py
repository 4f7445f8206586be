"""The oracle: a slim model must compute what the original computes when nothing reads the removed channels."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from ..errors import ModelError, VerificationError
from .analysis import analyze
from .group import ChannelAnalysis, Role
from .load import ensure_loaded
from .protos import copy_without_weights
from .run import example_inputs, run_as_written
from .slim import Removal
from .stored import stored_weights

__all__ = ["verify", "zeroed"]

_SQUASHING = {"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh"}
_TOLERANCE = {np.dtype(np.float16): 3e-2, np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-6}


def zeroed(model: onnx.ModelProto, removal: Removal, analysis: ChannelAnalysis) -> onnx.ModelProto:
    """The original with the consumers of the removed units zeroed: what is no longer read must not matter."""
    gone: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
    for name, units in removal.items():
        for item in analysis.group(name).slices(units):
            if item.role is Role.CONSUMER:
                gone.setdefault(item.tensor, []).append((item.axis, item.indices))
    out = copy_without_weights(model)
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = {weight.tensor: weight for weight in stored_weights(model).values()}
    for tensor in model.graph.initializer:
        if tensor.name in gone:
            array, zero = numpy_helper.to_array(tensor).copy(), np.array(0)
            if tensor.name in stored and stored[tensor.name].zero_point:
                zero = numpy_helper.to_array(arrays[stored[tensor.name].zero_point])
                along = [-1 if axis == stored[tensor.name].axis else 1 for axis in range(array.ndim)]
                zero = zero.reshape(along if zero.size > 1 else ())
            zeros = np.broadcast_to(zero, array.shape)
            for axis, indices in gone[tensor.name]:
                place = (slice(None),) * axis + (list(indices),)
                array[place] = zeros[place]
            tensor = numpy_helper.from_array(array, tensor.name)
        out.graph.initializer.append(tensor)
    return out


def verify(
    model: onnx.ModelProto | str | os.PathLike[str],
    small: onnx.ModelProto,
    removal: Removal,
    *,
    analysis: ChannelAnalysis | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> None:
    """Check `small = slim(model, removal)` in onnxruntime.

    Exact groups: the outputs equal those of the original with the removed units' consumers zeroed, to rounding; what a
    final Softmax, Sigmoid or Tanh reads is compared too, since these hide differences. Groups that are not exact change
    what is computed, so only names, shapes, types and finiteness of the outputs are compared when any is in `removal`.

    Args:
        inputs: what to run on; random where left out (sizes that are not fixed: a batch of 2 where the model
            takes it, 64 on an image's last axes, 1 on others).

    Raises:
        VerificationError: naming the output and the largest difference.
        ModelError: the original computes no finite number, so that nothing can be told.
    """
    model = ensure_loaded(model)
    analysis = analyze(model) if analysis is None else analysis
    exact = all(analysis.group(name).exact for name, units in removal.items() if len(units))
    reference = zeroed(model, removal, analysis) if exact else model
    inputs, before = _reference(reference, inputs, seed)
    _check_finite(before)
    after = _slim_probed(small, inputs)
    for value in model.graph.output:
        if value.name not in after:
            raise VerificationError(f"output {value.name!r} is missing from the slim model")
    squashed = {name for node in model.graph.node if node.op_type in _SQUASHING for name in node.output}
    if exact and (unrounded := _without_steps(reference)) is not None:
        _compare_all(before, after, squashed, values=False)
        before = _probed(unrounded, inputs)
        after = _slim_probed(_without_steps(small) or small, inputs)
    _compare_all(before, after, squashed, values=exact)


def _reference(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray] | None, seed: int
) -> tuple[Mapping[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs that the original runs on, and what it makes of them.

    A batch that is not fixed is two images: one alone would not tell images from channels. Some graphs, whatever their
    inputs say, run on one.
    """
    if inputs is not None:
        return inputs, _probed(model, inputs)
    pair, single = (_inputs(model, seed, batch) for batch in (2, 1))
    try:
        return pair, _probed(model, pair)
    except ModelError:
        return single, _probed(model, single)


def _inputs(model: onnx.ModelProto, seed: int, batch: int) -> dict[str, np.ndarray]:
    """Images of unknown size are given 64 pixels a side, everything else that is not fixed one entry."""
    fixed = onnx.ModelProto()
    fixed.graph.input.extend(model.graph.input)
    for value in fixed.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if not dim.HasField("dim_value"):
                dim.dim_value = batch if axis == 0 else 64 if len(dims) == 4 and axis >= 2 else 1
    return example_inputs(fixed, seed)


def _without_steps(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model without rounding of activations to integers; None where it has none, or works on the integers.

    Rounding turns a difference in the last bit into a whole step, and steps add up: values are compared without it.
    """
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    if not rounded or any(readers.get(name) != {"DequantizeLinear"} for name in rounded):
        return None
    out = copy_without_weights(model)
    out.graph.initializer.extend(model.graph.initializer)
    del out.graph.value_info[:]
    for node in out.graph.node:
        if node.output[0] in rounded or (node.op_type == "DequantizeLinear" and node.input[0] in rounded):
            node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output, node.name))
    return out


def _compare_all(
    before: Mapping[str, object], after: Mapping[str, object], squashed: Collection[str], *, values: bool
) -> None:
    for name, wanted in before.items():
        if name in after:
            expected, got = dict(_leaves(name, wanted)), dict(_leaves(name, after[name]))
            if expected.keys() != got.keys():
                raise VerificationError(f"output {name!r} has {len(got)} parts, the original's has {len(expected)}")
            for part, array in expected.items():
                _compare(part, array, got[part], values=values, near_one=name in squashed)


def _check_finite(outputs: Mapping[str, object]) -> None:
    """Raise where an original's numbers say nothing: NaN compares with NaN as well as any."""
    leaves = dict(leaf for name, value in outputs.items() for leaf in _leaves(name, value))
    real = {name: array for name, array in leaves.items() if np.issubdtype(array.dtype, np.floating) and array.size}
    if real and len(real) == len(leaves) and not any(np.isfinite(array).any() for array in real.values()):
        raise ModelError(f"output {next(iter(real))!r} of the model is not finite: are there NaN among its weights?")


def _slim_probed(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        return _probed(model, inputs)
    except ModelError as error:
        raise VerificationError(str(error).replace("the model", "the slim model", 1)) from error


def _probed(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs, and what squashing operators right before them read."""
    outputs = {value.name for value in model.graph.output}
    probes = {n.input[0] for n in model.graph.node if n.op_type in _SQUASHING and n.output[0] in outputs}
    probed = copy_without_weights(model)
    probed.graph.initializer.extend(model.graph.initializer)
    made = {name for node in model.graph.node for name in node.output}
    probed.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in sorted((probes & made) - outputs)
    )
    return run_as_written(probed, inputs)


def _leaves(name: str, value: object) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of an output, which may be a sequence or a map."""
    if isinstance(value, list | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(f"{name}[{key}]", item)
    else:
        yield name, np.asarray(value)


def _compare(name: str, wanted: np.ndarray, got: np.ndarray, *, values: bool, near_one: bool) -> None:
    """Raise where they differ; `near_one`: small values were rounded as parts of one (a sigmoid far to the left)."""
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        raise VerificationError(
            f"output {name!r} is {got.dtype}{list(got.shape)}, the original's is {wanted.dtype}{list(wanted.shape)}"
        )
    if not np.issubdtype(wanted.dtype, np.floating):
        if values and not np.array_equal(wanted, got):
            raise VerificationError(f"output {name!r} differs in {int((wanted != got).sum())} of {wanted.size} entries")
        return
    finite = np.isfinite(wanted)
    if (values or finite.all()) and not np.isfinite(got[finite]).all():
        raise VerificationError(f"output {name!r} of the slim model is not finite")
    if not values or not finite.any():
        return
    difference = float(np.abs(wanted[finite].astype(np.float64) - got[finite]).max())
    scale = float(np.abs(wanted[finite].astype(np.float64)).max()) or 1.0
    rounding = 4 * float(np.finfo(wanted.dtype).eps) if near_one else 0.0
    if difference > _TOLERANCE.get(wanted.dtype, 1e-3) * scale + rounding:
        raise VerificationError(
            f"output {name!r} differs by up to {difference:.3g} (largest value {scale:.3g}) from the original with the "
            "removed channels' consumers zeroed"
        )
