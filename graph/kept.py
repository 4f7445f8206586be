"""Which positions of every tensor are left when units go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["Kept"]


class Kept:
    """Answers for one removal. A position is gone as soon as one of the units it belongs to is.

    Args:
        views: labellings; each gives for tensors the unit number of every position, -1 where it stays.
        removed: (units + 1,) truth values; the last one, that of -1, is false.
    """

    def __init__(self, views: Sequence[Mapping[str, np.ndarray]], removed: np.ndarray) -> None:
        self._views = views
        self._removed = removed
        self._known: dict[tuple[str, int], np.ndarray | None] = {}

    def along(self, name: str, axis: int) -> np.ndarray | None:
        """Positions that are left along an axis, ascending; None when all are.

        On an axis whose size is not fixed these are positions within an image.
        """
        key = (name, axis)
        if key not in self._known:
            gone = [found for view in self._views if (found := self._gone(view.get(name), axis)) is not None]
            self._known[key] = np.flatnonzero(~np.any(gone, axis=0)) if gone else None
        return self._known[key]

    def _gone(self, labels: np.ndarray | None, axis: int) -> np.ndarray | None:
        if labels is None or axis >= labels.ndim or labels.shape[axis] == 1:
            return None
        first = tuple(slice(None) if other == axis else 0 for other in range(labels.ndim))
        gone = self._removed[labels[first]]
        return gone if gone.any() else None
