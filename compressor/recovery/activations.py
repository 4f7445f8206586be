"""Running a model for what it computes inside: intermediate tensors over calibration images, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
import onnx
import onnxruntime as ort

from ...errors import DataError
from ...graph.protos import copy_without_weights

__all__ = [
    "Feeds",
    "activations",
    "as_feeds",
    "batches",
    "fixed_batch",
    "open_session",
    "outputs_of",
    "sample_count",
]

Feeds = Mapping[str, np.ndarray]
"""Graph input -> values; axis 0 counts samples. An input of rank 0 is the same for all samples."""

_LARGEST_BATCH = 64
_COPIES = 3
"""Of a batch that exist at a time: onnxruntime's, numpy's, and the one before that the caller still looks at."""


def as_feeds(model: onnx.ModelProto, images: np.ndarray | Feeds) -> dict[str, np.ndarray]:
    """Inputs by name; a bare array is for the only input.

    Raises:
        DataError: inputs without data, data without an input, no samples, or inputs with different numbers of samples.
    """
    names = [value.name for value in model.graph.input]
    if isinstance(images, np.ndarray):
        if len(names) != 1:
            raise DataError(
                f"the model has {len(names)} inputs ({', '.join(names)}); give data for each of them by name"
            )
        feeds = {names[0]: images}
    else:
        feeds = dict(images)
    if set(feeds) != set(names):
        raise DataError(
            f"the model's inputs are {', '.join(sorted(names))}; the data is for {', '.join(sorted(feeds))}"
        )
    counts = {name: len(array) for name, array in feeds.items() if array.ndim}
    if not counts or min(counts.values()) == 0:
        raise DataError("there are no calibration samples")
    if len(set(counts.values())) > 1:
        raise DataError(f"inputs have different numbers of samples: {counts}")
    return feeds


def sample_count(feeds: Feeds) -> int:
    """Samples in `feeds`."""
    return next(len(array) for array in feeds.values() if array.ndim)


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """The batch size that the model's inputs insist on; None where it is dynamic."""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].HasField("dim_value"):
            return dims[0].dim_value
    return None


def batches(feeds: Feeds, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Consecutive batches of `size` samples; the last may be smaller."""
    for start in range(0, sample_count(feeds), size):
        yield {name: array[start : start + size] if array.ndim else array for name, array in feeds.items()}


def open_session(model: onnx.ModelProto, threads: int = 0) -> ort.InferenceSession:
    """A CPU session; `threads` 0 leaves the number to onnxruntime.

    Idle threads sleep: between two runs numpy needs the cores.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # The arena would keep the largest batch for good, beside the copies that numpy gets.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs_of(session: ort.InferenceSession, names: Sequence[str], values: Feeds) -> dict[str, np.ndarray]:
    """Outputs by name, from whichever of `values` the session takes."""
    feeds = {value.name: values[value.name] for value in session.get_inputs()}
    return dict(zip(names, cast("list[np.ndarray]", session.run(names, feeds)), strict=True))


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model that returns `tensors` and computes nothing else."""
    out = copy_without_weights(model)
    out.graph.initializer.extend(model.graph.initializer)
    del out.graph.output[:]
    out.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return out


def activations(
    model: onnx.ModelProto, tensors: Iterable[str], feeds: Feeds, *, memory: int = 512, threads: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """The values of `tensors`, batch by batch, `memory` MiB of them at a time.

    Where the tensors of a single sample exceed the memory, they come in several passes over the data: one dict then
    holds some of the tensors, and every tensor comes once for every batch. A fixed batch size is respected, and samples
    that do not fill the last batch are left out.

    Raises:
        DataError: fewer samples than the model's fixed batch size.
    """
    wanted = list(dict.fromkeys(tensors))
    given = {value.name for value in model.graph.input}
    fixed = fixed_batch(model)
    count = sample_count(feeds)
    if fixed is not None and count < fixed:
        raise DataError(f"the model takes batches of {fixed} samples, and there are {count}")
    first = next(batches(feeds, fixed or 1))
    sizes = _sizes(model, wanted, first, threads)
    budget = memory * 2**20 // _COPIES
    for part in _parts(sizes, budget):
        size = fixed or max(1, min(_LARGEST_BATCH, budget // max(1, sum(sizes[name] for name in part))))
        computed = [name for name in part if name not in given]
        session = open_session(with_outputs(model, computed), threads) if computed else None
        for batch in batches(feeds, size):
            if fixed and sample_count(batch) < fixed:
                break
            values = {name: batch[name] for name in part if name in given}
            if session is not None:
                values.update(outputs_of(session, computed, batch))
            yield values


def _sizes(model: onnx.ModelProto, tensors: Sequence[str], first: Feeds, threads: int) -> dict[str, int]:
    """Bytes of each tensor for one batch, measured: inferred shapes may be unknown."""
    given = {value.name for value in model.graph.input}
    computed = [name for name in tensors if name not in given]
    sizes = {name: first[name].nbytes for name in tensors if name in given}
    if computed:
        session = open_session(with_outputs(model, computed), threads)
        sizes.update({name: array.nbytes for name, array in outputs_of(session, computed, first).items()})
    return sizes


def _parts(sizes: Mapping[str, int], budget: int) -> Iterator[list[str]]:
    """The tensors in order, split where one sample of them would exceed the budget."""
    part: list[str] = []
    for name, size in sizes.items():
        if part and sum(sizes[other] for other in part) + size > budget:
            yield part
            part = []
        part.append(name)
    if part:
        yield part
