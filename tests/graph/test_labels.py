"""Union-find over label arrays, against a naive one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ortrim.graph.labels import Atoms, collapse, varying

SIZE = 12
atom = st.integers(0, SIZE - 1)
pairs = st.lists(st.tuples(atom, atom), max_size=8)
calls = st.lists(pairs, max_size=6)
quick = settings(deadline=None, max_examples=60, derandomize=True)


class Naive:
    """Sets merged one pair at a time."""

    def __init__(self):
        self.of = {n: {n} for n in range(SIZE)}

    def union(self, a, b):
        merged = self.of[a] | self.of[b]
        for n in merged:
            self.of[n] = merged


def both(calls):
    atoms, naive = Atoms(), Naive()
    atoms.fresh(SIZE)
    for call in calls:
        a, b = (np.array([pair[side] for pair in call], dtype=np.int64) for side in (0, 1))
        atoms.union(a, b)
        for pair in call:
            naive.union(*pair)
    return atoms, naive


@quick
@given(calls)
def test_the_representative_is_the_smallest_of_the_merged_set(calls):
    """Whatever the order of the pairs, and however often an atom stands in one call."""
    atoms, naive = both(calls)
    assert atoms.find(np.arange(SIZE)).tolist() == [min(naive.of[n]) for n in range(SIZE)]


@quick
@given(calls, st.lists(st.tuples(st.integers(0, 6), st.lists(atom, min_size=1, max_size=4)), max_size=4))
def test_marks_belong_to_all_that_is_or_will_be_merged(calls, marks):
    atoms, naive = Atoms(), Naive()
    atoms.fresh(SIZE)
    for number in range(len(calls) + 1):
        for place, (when, marked) in enumerate(marks):
            if when % (len(calls) + 1) == number:
                atoms.freeze(np.array(marked), f"reason {place}")
                atoms.blur(np.array(marked[:1]))
        for a, b in calls[number] if number < len(calls) else ():
            atoms.union(np.array([a]), np.array([b]))
            naive.union(a, b)
    roots = atoms.find(np.arange(SIZE)).tolist()
    order = sorted(range(len(marks)), key=lambda place: (marks[place][0] % (len(calls) + 1), place))
    for n in range(SIZE):
        reasons = [f"reason {place}" for place in order if naive.of[n] & set(marks[place][1])]
        assert atoms.frozen().get(roots[n]) == (reasons[0] if reasons else None)
        blurred = any(marked[0] in naive.of[n] for _, marked in marks)
        assert (roots[n] in atoms.inexact()) == blurred


@quick
@given(calls)
def test_union_again_changes_nothing(calls):
    atoms, _ = both(calls)
    once = atoms.find(np.arange(SIZE))
    for call in calls:
        a, b = (np.array([pair[side] for pair in call], dtype=np.int64) for side in (0, 1))
        atoms.union(b, a)
    assert np.array_equal(atoms.find(np.arange(SIZE)), once)


def test_union_broadcasts():
    atoms = Atoms()
    labels = atoms.fresh(6).reshape(2, 3)
    atoms.union(labels, labels[:1])
    assert atoms.find(labels).tolist() == [[0, 1, 2], [0, 1, 2]]
    atoms.union(labels, labels[:, :1])
    assert not atoms.find(labels).any()


def test_fresh_atoms_are_new_and_their_own():
    atoms = Atoms()
    first, second = atoms.fresh(3), atoms.fresh(5000)
    assert first.tolist() == [0, 1, 2]
    assert second[[0, -1]].tolist() == [3, 5002]
    assert len(atoms) == 5003
    assert np.array_equal(atoms.find(second), second)
    assert atoms.fresh(0).size == 0


@quick
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(0, 99), st.integers(1, 3))
def test_collapse_to_the_varying_axes_loses_nothing(shape, seed, kinds):
    labels = np.random.default_rng(seed).integers(0, kinds, shape)
    axes = varying(labels)
    assert np.array_equal(np.broadcast_to(collapse(labels, axes), labels.shape), labels)
    for axis in range(labels.ndim):
        same = all(np.array_equal(labels.take(n, axis), labels.take(0, axis)) for n in range(labels.shape[axis]))
        assert (axis in axes) == (not same)
