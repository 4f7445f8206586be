"""Classes of units, against the definition."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ortrim.graph.group import Role
from ortrim.graph.labels import Atoms
from ortrim.graph.partition import Partition
from ortrim.graph.walk import Use

ATOMS = 8
vectors = st.lists(st.integers(0, ATOMS - 1), min_size=1, max_size=10).map(np.array)
merges = st.lists(st.tuples(st.integers(0, ATOMS - 1), st.integers(0, ATOMS - 1)), max_size=3)


@given(st.lists(vectors, max_size=4), st.lists(vectors, max_size=4), merges)
def test_units_of_a_class_sit_in_the_same_places_as_often_and_in_the_same_tensors(tensors, places, merged):
    atoms = Atoms()
    atoms.fresh(ATOMS)
    for a, b in merged:
        atoms.union(np.array([a]), np.array([b]))
    arrays = {f"t{number}": labels for number, labels in enumerate(tensors)}
    uses = [Use("node", f"w{number}", 0, labels, Role.CONSUMER) for number, labels in enumerate(places)]
    partition = Partition(SimpleNamespace(atoms=atoms, arrays=arrays), uses)

    roots = np.unique(atoms.find(np.arange(ATOMS))).tolist()
    expected = defaultdict(list)
    for root in roots:
        carried = tuple(name for name, labels in arrays.items() if root in atoms.find(labels))
        often = tuple(Counter(atoms.find(use.labels).tolist())[root] for use in uses)
        expected[carried, often].append(root)
    found = defaultdict(list)
    for root in roots:
        found[int(partition.of[root])].append(root)
    assert sorted(map(tuple, found.values())) == sorted(map(tuple, expected.values()))

    for number, members in found.items():
        ranked = [root for root in partition.members(number).tolist() if root in members]
        first = next((use for use in uses if members[0] in atoms.find(use.labels)), None)
        if first is not None:
            labels = atoms.find(first.labels).tolist()
            assert ranked == sorted(members, key=labels.index)
