"""DATA -> samples as the model wants them: readers for `.npz` and folders, normalisation, disjoint splits."""

from .dataset import Batch, Dataset
from .identity import data_identity
from .load import load_data
from .preprocess import Preprocessing
from .spec import InputSpec
from .split import Split, split, spread_order

__all__ = [
    "Batch",
    "Dataset",
    "InputSpec",
    "Preprocessing",
    "Split",
    "data_identity",
    "load_data",
    "split",
    "spread_order",
]
