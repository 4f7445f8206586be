"""`--data`: whatever form the samples come in, one call reads them for a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import DataError
from .dataset import Dataset, PixelColumn
from .folder import list_folder
from .images import decode_all
from .npz import checked_preprocessing, read_npz
from .preprocess import Preprocessing
from .spec import InputSpec
from .split import spread_order

__all__ = ["load_data"]


def load_data(
    path: str | Path,
    spec: InputSpec,
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Read samples, and labels where there are any, as the model described by `spec` takes them.

    Args:
        path: a `.npz` archive with `images` (uint8 NHWC, or float32 NCHW which is taken as it is) or with one array
            per input of the model, and `labels` if known; or a folder with class folders, with `labels.csv`
            (`file,label`), or with images alone.
        preprocessing: how pixels are normalised; x/255 by default.
        limit: read at most this many, chosen by `seed` and stratified where there are labels.

    Raises:
        DataError: anything about the data that does not fit; one line naming the file and the array or image.
        InputError: preprocessing flags that do not go with these data or this model.
    """
    path = Path(path)
    preprocessing = preprocessing or Preprocessing()
    if limit is not None and limit < 1:
        raise DataError(f"{path}: at most {limit} samples were asked for; at least one is needed")
    try:
        is_folder = path.is_dir()
        if not is_folder and not path.exists():
            raise DataError(f"--data {path} does not exist")
        if not is_folder and not path.is_file():
            raise DataError(f"--data {path} is neither a file nor a folder")
        if is_folder:
            return _load_folder(path, spec, preprocessing, limit, seed)
        columns, labels = read_npz(path, spec, preprocessing)
    except OSError as error:
        raise DataError(f"--data {path} cannot be read: {error.strerror or error}") from error
    dataset = Dataset(spec, columns, labels, path)
    chosen = _chosen(len(dataset), labels, limit, seed)
    return dataset if chosen is None else dataset.subset(chosen)


def _load_folder(path: Path, spec: InputSpec, preprocessing: Preprocessing, limit: int | None, seed: int) -> Dataset:
    tensor = spec.image
    if tensor is None or tensor.image is None:
        needs = ", ".join(map(str, spec.inputs))
        raise DataError(f"{path} is a folder of images, but the model takes {needs}: give a .npz with arrays so named")
    layout = tensor.image
    channels = layout.channels or 3
    preprocessing = checked_preprocessing(str(path), tensor, preprocessing)
    preprocessing.check_channels(channels)
    index = list_folder(path)
    chosen = _chosen(len(index.files), index.labels, limit, seed)
    if chosen is not None:
        index = index.subset(chosen)
    pixels = decode_all(index.files, channels, layout.height, layout.width)
    column = PixelColumn(pixels, tensor, preprocessing)
    return Dataset(spec, {tensor.name: column}, index.labels, path, index.class_names)


def _chosen(samples: int, labels: np.ndarray | None, limit: int | None, seed: int) -> np.ndarray | None:
    """Positions of the samples to keep, ascending; None for all of them."""
    if limit is None or samples <= limit:
        return None
    return np.sort(spread_order(samples, labels, seed)[:limit])
