"""Units sorted into classes: those of one class sit in the same places, as often, and in the same tensors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .labels import Atoms
from .walk import Use, Walk

__all__ = ["Partition"]


class Partition:
    """Classes of representatives, found by splitting: everything is one class, and every place and tensor divides it.

    Because the tensors divide too, a class is whole in every tensor that carries it: none is left empty as long as one
    unit of each class stays.
    """

    def __init__(self, walk: Walk, uses: Sequence[Use]) -> None:
        count = len(walk.atoms)
        self.uses = [walk.atoms.find(use.labels) for use in uses]
        """Representative at every entry of each use."""
        self.of = np.zeros(count, dtype=np.int64)
        """Class of each representative."""
        self.rank = np.full(count, -1, dtype=np.int64)
        """Place of each representative within its class: by the first use that it is in, there by position."""
        self._first_use = np.full(count, len(uses), dtype=np.int64)
        self._classes = 1
        self.carried = _carried(walk.arrays, walk.atoms)
        for roots in {roots.tobytes(): roots for roots in self.carried.values()}.values():
            self._split(roots, np.zeros(len(roots), dtype=np.int64))
        first_place = np.zeros(count, dtype=np.int64)
        for number, labels in enumerate(self.uses):
            roots, places, times = np.unique(labels, return_index=True, return_counts=True)
            self._split(roots, times)
            new = self._first_use[roots] == len(uses)
            self._first_use[roots[new]], first_place[roots[new]] = number, places[new]
        order = np.lexsort((first_place, self.of))
        starts = np.flatnonzero(np.diff(self.of[order], prepend=-1))
        bounds = np.append(starts, count)
        self._bounds = dict(zip(self.of[order[starts]].tolist(), pairwise(bounds.tolist()), strict=True))
        self._order = order
        self.rank[order] = np.arange(count) - np.repeat(starts, np.diff(bounds))

    def _split(self, roots: np.ndarray, values: np.ndarray) -> None:
        """Give representatives a new class, by their old one and their value."""
        before = self.of[roots] * (int(values.max(initial=0)) + 1) + values
        kinds, inside = np.unique(before, return_inverse=True)
        self.of[roots] = self._classes + inside
        self._classes += len(kinds)

    def members(self, number: int) -> np.ndarray:
        """Representatives of a class, by rank."""
        start, end = self._bounds[number]
        return self._order[start:end]

    def place(self, number: int) -> tuple[int, int]:
        """Classes in this order are in graph order."""
        members = self.members(number)
        return int(self._first_use[members[0]]), int(members.min())

    def classes(self, roots: np.ndarray) -> frozenset[int]:
        """Numbers of the classes that some representatives belong to."""
        return frozenset(np.unique(self.of[roots]).tolist())


def _carried(arrays: dict[str, np.ndarray], atoms: Atoms) -> dict[str, np.ndarray]:
    """Tensor -> the representatives that it carries, ascending."""
    return {name: np.unique(atoms.find(labels)) for name, labels in arrays.items()}
