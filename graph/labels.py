"""Label arrays and the union-find beneath them: which tensor positions live and die together.

Every tensor carries an integer array of *atoms* with the tensor's rank. An axis along which the atoms do not differ has
size 1, so an NCHW feature map needs only (1, C, 1, 1). Two positions with one atom (after `find`) go together. What
moves data is applied to the arrays themselves with numpy; what combines data calls `union`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["Atoms", "collapse", "varying"]


class Atoms:
    """Union-find over integers, with marks that a merged set inherits.

    Marks are recorded as they come and resolved once at the end, so that merging stays a pure array operation.
    """

    def __init__(self) -> None:
        self._parent = np.zeros(0, dtype=np.int64)
        self._count = 0
        self._frozen: list[tuple[np.ndarray, str]] = []
        self._inexact: list[np.ndarray] = []

    def __len__(self) -> int:
        return self._count

    def fresh(self, count: int) -> np.ndarray:
        """`count` atoms that no position carries yet, as a vector."""
        start, self._count = self._count, self._count + count
        if self._count > len(self._parent):
            self._parent = np.concatenate([self._parent, np.arange(len(self._parent), 2 * self._count + 1024)])
        return np.arange(start, self._count)

    def find(self, atoms: np.ndarray) -> np.ndarray:
        """The representative of each atom; same shape."""
        roots = self._parent[atoms]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[atoms] = roots  # path compression
        return roots

    def union(self, a: np.ndarray, b: np.ndarray) -> None:
        """Merge `a[i]` with `b[i]` for every i, after broadcasting.

        The smaller representative wins, so that names drawn from first atoms do not depend on the order of merging. An
        atom may stand in several pairs of one call; hence the loop until nothing differs.
        """
        a, b = (part.ravel() for part in np.broadcast_arrays(a, b))
        while True:
            a, b = self.find(a), self.find(b)
            differ = a != b
            if not differ.any():
                return
            a, b = a[differ], b[differ]
            self._parent[np.maximum(a, b)] = np.minimum(a, b)

    def freeze(self, atoms: np.ndarray, reason: str) -> None:
        """These stay, and so does all that is or will be merged with them. The first reason is the one reported."""
        self._frozen.append((np.unique(atoms), reason))

    def blur(self, atoms: np.ndarray) -> None:
        """Removing these changes what others compute (a normalisation across them): not exact."""
        self._inexact.append(np.unique(atoms))

    def frozen(self) -> dict[int, str]:
        """Representative -> the first reason that it stays."""
        reasons: dict[int, str] = {}
        for atoms, reason in self._frozen:
            for root in np.unique(self.find(atoms)).tolist():
                reasons.setdefault(root, reason)
        return reasons

    def inexact(self) -> set[int]:
        """Representatives that were blurred."""
        return {root for atoms in self._inexact for root in np.unique(self.find(atoms)).tolist()}


def varying(labels: np.ndarray) -> tuple[int, ...]:
    """Axes along which the labels differ."""
    axes = [axis for axis, size in enumerate(labels.shape) if size > 1]
    if len(axes) == 1:  # the usual case, without the copies
        flat = labels.ravel()
        return tuple(axes) if (flat != flat[0]).any() else ()
    return tuple(axis for axis in axes if not (labels == labels.take([0], axis)).all())


def collapse(labels: np.ndarray, keep: Iterable[int]) -> np.ndarray:
    """`labels` with size 1 on every axis outside `keep`: the first entry stands for all."""
    kept = set(keep)
    index = tuple(slice(None) if axis in kept else slice(0, 1) for axis in range(labels.ndim))
    return labels[index]
