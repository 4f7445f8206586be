"""Samples from a `.npz` archive: `images` (uint8 NHWC or float32 NCHW), or one array per input of the model."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np

from ...errors import DataError, InputError
from .dataset import Column, PixelColumn, TensorColumn
from .preprocess import Preprocessing
from .spec import ImageLayout, InputSpec, TensorSpec

__all__ = ["read_npz"]

# What zipfile and numpy raise on damaged archives, found by cutting and flipping bytes of real ones.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    TokenError,
    SyntaxError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


def read_npz(path: Path, spec: InputSpec, preprocessing: Preprocessing) -> tuple[dict[str, Column], np.ndarray | None]:
    """One column per input of the model, and int64 labels (samples,) where the archive has `labels`.

    Raises:
        DataError: the file or one of its arrays is not what the model needs; the message names the array.
        InputError: flags for pixels with data that are no pixels.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
    except _DAMAGE as error:
        raise DataError(
            f"{path} is not a .npz archive, or is cut short: --data takes a .npz file or a folder of images"
        ) from error
    keys = _keys(path, spec, found)
    has_labels = "labels" in found and "labels" not in keys.values()
    arrays = _read_arrays(path, [*keys.values(), *(["labels"] if has_labels else [])])
    columns = {tensor.name: _column(path, keys[tensor.name], arrays, tensor, preprocessing) for tensor in spec.inputs}
    counts = {keys[name]: len(column) for name, column in columns.items()}
    samples = min(counts.values())
    if max(counts.values()) != samples:
        raise DataError(f"{path}: arrays differ in length: " + ", ".join(f"{k!r} {n}" for k, n in counts.items()))
    if samples == 0:
        raise DataError(f"{path}: {next(iter(counts))!r} holds no samples")
    _check_batch(path, spec, columns)
    if preprocessing.flags and not any(isinstance(column, PixelColumn) for column in columns.values()):
        kinds = ", ".join(f"{key!r} is {arrays[key].dtype}" for key in keys.values())
        raise InputError(f"{preprocessing.flags} is for uint8 pixels, but in {path} {kinds}, which is taken as it is")
    return columns, _labels(path, arrays["labels"], samples) if has_labels else None


def _keys(path: Path, spec: InputSpec, found: Sequence[str]) -> dict[str, str]:
    """Input name -> key of its array: the input's own name, or `images` for the only input or the only image input."""
    pictured = [tensor for tensor in spec.inputs if tensor.image] if len(spec.inputs) > 1 else list(spec.inputs)
    keys = {tensor.name: tensor.name for tensor in spec.inputs}
    if len(pictured) == 1 and pictured[0].name not in found:
        keys[pictured[0].name] = "images"
    missing = [key for key in keys.values() if key not in found]
    if missing:
        raise DataError(
            f"{path} lacks {' and '.join(map(repr, missing))} (found: {', '.join(map(repr, found)) or 'nothing'}); "
            f"the model takes {', '.join(map(str, spec.inputs))}"
        )
    return keys


def _read_arrays(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these keys; pickled objects are refused, since unpickling runs code."""
    arrays: dict[str, np.ndarray] = {}
    for key in keys:
        try:
            with np.load(path, allow_pickle=False) as archive:
                value = archive[key]
        except _DAMAGE as error:
            if "Object arrays" in str(error):
                raise DataError(f"{path}: {key!r} holds Python objects; save plain numbers instead") from error
            raise DataError(f"{path}: array {key!r} cannot be read: {_first_line(error)}") from error
        if not isinstance(value, np.ndarray):
            raise DataError(f"{path}: member {key!r} is not a numpy array")
        arrays[key] = value
    return arrays


def _column(
    path: Path, key: str, arrays: Mapping[str, np.ndarray], tensor: TensorSpec, preprocessing: Preprocessing
) -> Column:
    array = arrays[key]
    where = f"{path}: {key!r}"
    if tensor.image and array.dtype == np.uint8 and (key == "images" or tensor.dtype.kind == "f"):
        return _pixel_column(where, array, tensor, tensor.image, preprocessing)
    _check_kind(where, array, tensor, key)
    if tensor.image and key == "images":
        array = _arranged(where, array, tensor.image)
    stacked = key != "images" and tensor.shape is not None and array.ndim == len(tensor.shape) + 1
    _check_shape(where, array, tensor, stacked)
    if array.dtype.kind == "f":
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            raise DataError(f"{where} holds NaN or infinity, first in sample {int(np.argmin(finite))}")
    elif tensor.dtype.kind in "iu" and array.size:
        limits = np.iinfo(tensor.dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise DataError(f"{where} holds numbers that do not fit the model's {tensor.dtype}")
    return TensorColumn(array, tensor, stacked)


def _pixel_column(
    where: str, array: np.ndarray, tensor: TensorSpec, layout: ImageLayout, preprocessing: Preprocessing
) -> PixelColumn:
    """uint8 NHWC pixels, or NHW for grey images."""
    if array.ndim == 3 and layout.channels in (1, None):
        array = array[..., np.newaxis]
    wanted = (layout.height, layout.width, layout.channels)
    if array.ndim != 4 or not _fits(array.shape[1:], wanted):
        hint = ""
        if array.ndim == 4 and _fits(array.shape[1:], (layout.channels, layout.height, layout.width)):
            hint = "; uint8 images have their channels on the last axis"
        raise DataError(
            f"{where} is of shape {array.shape}, but the model needs uint8 images of {_show((None, *wanted))}{hint}"
        )
    if tensor.dtype.kind == "f":
        preprocessing.check_channels(array.shape[-1])
    return PixelColumn(array, tensor, checked_preprocessing(where, tensor, preprocessing))


def checked_preprocessing(where: str, tensor: TensorSpec, preprocessing: Preprocessing) -> Preprocessing:
    """`preprocessing`, when pixels can be fed to this input with it.

    Raises:
        DataError: the input's type cannot hold 0..255.
        InputError: normalisation is asked for, but the input takes whole numbers.
    """
    if tensor.dtype.kind == "f":
        return preprocessing
    if not np.can_cast(np.uint8, tensor.dtype):
        raise DataError(
            f"{where}: input {tensor} cannot hold pixels of 0..255, so give a .npz with an array named {tensor.name!r}"
        )
    if preprocessing.flags:
        raise InputError(f"{preprocessing.flags} does not apply: input {tensor} takes pixels as they are")
    return preprocessing


def _check_kind(where: str, array: np.ndarray, tensor: TensorSpec, key: str) -> None:
    families = ("f", "iu", "b")
    family = next(letters for letters in families if tensor.dtype.kind in letters)
    if array.dtype.kind in family:
        return
    wanted = f"uint8 pixels or {tensor.dtype}" if tensor.image and key == "images" else str(tensor.dtype)
    raise DataError(f"{where} is of type {array.dtype}, but the model needs {wanted}")


def _arranged(where: str, array: np.ndarray, layout: ImageLayout) -> np.ndarray:
    """Preprocessed `images` (NCHW by convention, or in the model's own order) in the model's order."""
    if array.ndim == 3 and layout.channels in (1, None):
        array = array[:, np.newaxis]
    first = (layout.channels, layout.height, layout.width)
    if array.ndim == 4 and layout.channels_last and _fits(array.shape[1:], first):
        return array.transpose(0, 2, 3, 1)
    last = (layout.height, layout.width, layout.channels)
    if array.ndim == 4 and not layout.channels_last and not _fits(array.shape[1:], first):
        hint = "; float images have their channels on axis 1" if _fits(array.shape[1:], last) else ""
        raise DataError(
            f"{where} is of shape {array.shape}, but the model needs images of {_show((None, *first))}{hint}"
        )
    return array


def _check_shape(where: str, array: np.ndarray, tensor: TensorSpec, stacked: bool) -> None:
    if array.ndim == 0:
        raise DataError(f"{where} is a single number: the first axis counts samples")
    if tensor.shape is None or (stacked and _fits(array.shape[1:], tensor.shape)):
        return
    if not stacked and array.ndim == len(tensor.shape) and _fits(array.shape[1:], tensor.shape[1:]):
        return
    raise DataError(
        f"{where} is of shape {array.shape}, but the model needs {_show((None, *tensor.shape[1:]))}"
        f" (samples first), or a whole input a sample: {_show((None, *tensor.shape))}"
    )


def _check_batch(path: Path, spec: InputSpec, columns: Mapping[str, Column]) -> None:
    """Arrays whose first axis stands for the batch axis must agree on the batch size."""
    sliced = [tensor for tensor in spec.inputs if tensor.shape and not columns[tensor.name].stacked]
    fixed = {tensor.name: tensor.shape[0] for tensor in sliced if tensor.shape and tensor.shape[0] is not None}
    sizes = set(fixed.values()) | ({1} if len(sliced) < len(spec.inputs) else set())
    if len(sizes) > 1:
        name, size = max(fixed.items(), key=lambda item: item[1])
        raise DataError(
            f"{path}: input {name!r} has {size} on its first axis, which is not the batch of the other inputs: give "
            f"every sample as whole inputs, so that {name!r} is of shape (samples, {size}, ...)"
        )


def _labels(path: Path, labels: np.ndarray, samples: int) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != samples:
        raise DataError(f"{path}: 'labels' is of shape {labels.shape}, but there are {samples} samples")
    if labels.dtype.kind not in "iufb":
        raise DataError(f"{path}: 'labels' is of type {labels.dtype}: give whole numbers from 0")
    numbers = labels.astype(np.int64) if labels.dtype.kind == "b" else labels
    # Comparisons with NaN are False, so it is the whole numbers that are looked for; 2^53 is where floats skip some.
    whole = (numbers >= 0) & (numbers <= 2**53) & (np.floor(numbers) == numbers)
    if not whole.all():
        at = int(np.argmin(whole))
        raise DataError(f"{path}: label {labels[at]} of sample {at} is not a whole number from 0")
    return labels.astype(np.int64)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))


def _show(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("N" if i == 0 else ("any" if s is None else str(s)) for i, s in enumerate(shape)) + ")"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
