"""Inputs for any model: random ones, so that it can be measured without data, or those of a file."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import InputError, ModelError
from .session import PLAIN, Model, Session, TensorInfo, open_session

__all__ = ["Shapes", "batch_shapes", "check_shapes", "example_inputs", "feeds_for", "read_inputs"]

_FLOATS = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64}
# Small integers are often indices, lengths or flags: 0 and 1 are valid nearly everywhere. Bytes are mostly pixels.
_INTEGERS: dict[str, tuple[type[np.generic], int, int]] = {
    "tensor(int8)": (np.int8, -128, 128),
    "tensor(uint8)": (np.uint8, 0, 256),
    "tensor(int16)": (np.int16, 0, 2),
    "tensor(uint16)": (np.uint16, 0, 2),
    "tensor(int32)": (np.int32, 0, 2),
    "tensor(uint32)": (np.uint32, 0, 2),
    "tensor(int64)": (np.int64, 0, 2),
    "tensor(uint64)": (np.uint64, 0, 2),
    "tensor(bool)": (np.bool_, 0, 2),
}

Shapes = Mapping[str, Sequence[int]]


def example_inputs(model: Model | Session, shapes: Shapes | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays for every input of `model`: normal floats, never zeros, since zeros may be faster than data.

    The values of an input depend on its name, type, shape and the seed alone, so two models that share an input get the
    same array.

    Args:
        model: a model, or an open session of it.
        shapes: input name -> shape, for inputs with dynamic axes; axes that are left open are 1.
        seed: of the random values.

    Raises:
        ModelError: `shapes` names no input or does not fit one, or an input is of a type that has no random values.
    """
    session = model if isinstance(model, Session) else open_session(model, PLAIN)
    shapes = shapes or {}
    check_shapes(session, shapes)
    return {
        info.name: _random(info, _shape(info, shapes.get(info.name), session.name), seed) for info in session.inputs
    }


def batch_shapes(model: Model, batch: int, shapes: Shapes | None = None) -> dict[str, Sequence[int]]:
    """`shapes`, with a shape of that batch size for every other input whose first axis is dynamic.

    Raises:
        ModelError: no input has a dynamic first axis, or the model cannot be opened.
    """
    session = open_session(model, PLAIN)
    found = {
        info.name: (batch, *_shape(info, None, session.name)[1:])
        for info in session.inputs
        if info.shape and not isinstance(info.shape[0], int)
    }
    if not found:
        raise ModelError(f"model {session.name} has no input with a dynamic first axis: its batch size is fixed")
    return {**found, **(shapes or {})}


def read_inputs(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a `.npz`, by name of the input.

    Raises:
        InputError: a file that is missing or no `.npz`, or arrays of objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "not a .npz of plain arrays"
        raise InputError(f"inputs {os.fspath(path)}: {reason}") from error


def check_shapes(session: Session, shapes: Shapes) -> None:
    """Raises ModelError where `shapes` names something that is no input of the session."""
    names = [info.name for info in session.inputs]
    for name in shapes:
        if name not in names:
            raise ModelError(f"model {session.name} has no input {name!r}; its inputs are {', '.join(names) or 'none'}")


def feeds_for(
    session: Session, inputs: Mapping[str, np.ndarray] | None, shapes: Shapes | None, seed: int
) -> dict[str, np.ndarray]:
    """What to feed `session`: its part of `inputs` where they are given, else random arrays with its part of `shapes`.

    Raises:
        ModelError: an input that `inputs` lacks, or see `example_inputs`.
    """
    if inputs is None:
        own = {info.name for info in session.inputs}
        return example_inputs(session, {name: shape for name, shape in (shapes or {}).items() if name in own}, seed)
    missing = [info.name for info in session.inputs if info.name not in inputs]
    if missing:
        raise ModelError(f"model {session.name} needs input {missing[0]!r}, which is not among the inputs given")
    return {info.name: inputs[info.name] for info in session.inputs}


def _shape(info: TensorInfo, wanted: Sequence[int] | None, model: str) -> tuple[int, ...]:
    """The shape of an input, with its dynamic axes filled in."""
    if wanted is None:
        return tuple(size if isinstance(size, int) and size > 0 else 1 for size in info.shape)
    fits = len(wanted) == len(info.shape) and all(
        size == fixed or not isinstance(fixed, int) for size, fixed in zip(wanted, info.shape, strict=True)
    )
    if not fits or any(size < 1 for size in wanted):
        raise ModelError(
            f"model {model}: input {info.name!r} has shape {list(info.shape)}, which {list(wanted)} does not fit"
        )
    return tuple(int(size) for size in wanted)


def _random(info: TensorInfo, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(info.name.encode())])
    if info.type in _FLOATS:
        return rng.standard_normal(shape, dtype=np.float32).astype(_FLOATS[info.type])
    if info.type in _INTEGERS:
        kind, low, high = _INTEGERS[info.type]
        return rng.integers(low, high, shape).astype(kind)
    raise ModelError(f"input {info.name!r} is a {info.type}: there are no random values for it, give inputs")
