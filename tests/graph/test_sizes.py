"""Arithmetic of sizes that are not fixed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortrim.graph.sizes import product, quotient, split

SYMBOLS = {"batch": 7, "height": 11, "time": 13}
sizes = st.one_of(st.integers(1, 60), st.sampled_from(sorted(SYMBOLS)))


def value(size):
    """What a size is when its symbols are what SYMBOLS says."""
    if isinstance(size, int):
        return size
    count, rest = split(size)
    return count * math.prod(SYMBOLS[symbol] for symbol in rest.split("*"))


@given(st.lists(sizes, min_size=1, max_size=5))
def test_a_product_is_worth_the_product(factors):
    assert value(product(factors)) == math.prod(map(value, factors))


@given(st.lists(sizes, min_size=1, max_size=4), st.lists(sizes, min_size=1, max_size=4))
def test_a_quotient_undoes_a_product(a, b):
    whole = product([*a, *b])
    assert quotient(whole, product(b)) == product(a)


@given(st.lists(sizes, min_size=1, max_size=4), st.permutations(range(4)))
def test_the_order_of_factors_does_not_matter(factors, order):
    assert product(factors) == product(factors[place] for place in order if place < len(factors))


@pytest.mark.parametrize(
    ("whole", "part"), [("batch", 2), (7, 2), ("batch", "time"), (None, 3), (6, None), (5, 0), (12, "batch")]
)
def test_what_does_not_divide_is_unknown(whole, part):
    assert quotient(whole, part) is None


def test_an_unknown_factor_makes_the_product_unknown():
    assert product(["batch", None, 3]) is None


@pytest.mark.parametrize(("size", "parts"), [("12*batch", (12, "batch")), ("a*b", (1, "a*b")), ("s 0", (1, "s 0"))])
def test_split(size, parts):
    assert split(size) == parts
