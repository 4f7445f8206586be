"""Make the two splits of the demo data from scikit-learn's copy of the UCI digits.

The files that this writes are part of the repository, so nobody needs to run it, and scikit-learn is no dependency of
ortrim. It is kept as the record of how they were made:

    python -m ortrim.models.digits.data
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import TEST, TRAIN

HELD_OUT = 500
"""Images kept back for the final test; the other 1,297 are for training and for compressing."""
SEED = 0
BRIGHTEST = 16
"""Each pixel of the source counts the ink in a 4x4 block of a bitmap: 0..16."""


def split(counts: np.ndarray, labels: np.ndarray) -> dict[Path, dict[str, np.ndarray]]:
    """Both files' arrays, drawn at random without overlap.

    Args:
        counts: (N, 8, 8), 0..16.
        labels: (N,), 0..9.
    """
    images = np.rint(counts * (255 / BRIGHTEST)).astype(np.uint8)[..., np.newaxis]
    order = np.random.default_rng(SEED).permutation(len(images))
    parts = {TEST: np.sort(order[:HELD_OUT]), TRAIN: np.sort(order[HELD_OUT:])}
    return {path: {"images": images[rows], "labels": labels[rows].astype(np.int64)} for path, rows in parts.items()}


def main() -> None:
    from sklearn.datasets import load_digits  # here, so that importing this file does not need it

    pixels, labels = load_digits(return_X_y=True)
    for path, arrays in split(pixels.reshape(-1, 8, 8), labels).items():
        np.savez_compressed(path, images=arrays["images"], labels=arrays["labels"])


if __name__ == "__main__":
    main()
