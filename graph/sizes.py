"""Sizes that are not fixed, as products: `12*batch` is twelve times whatever `batch` turns out to be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from .protos import Dim

__all__ = ["product", "quotient", "split"]

_PRODUCT = re.compile(r"(?:(\d+)\*)?([^*]+(?:\*[^*]+)*)")


def split(size: str) -> tuple[int, str]:
    """The number and the symbols of a size: `12*batch` -> (12, "batch")."""
    match = _PRODUCT.fullmatch(size)
    return (int(match.group(1) or 1), match.group(2)) if match else (1, size)


def product(sizes: Iterable[Dim]) -> Dim:
    """The product, or None where one of them is unknown."""
    count, symbols = 1, list[str]()
    for size in sizes:
        if size is None:
            return None
        if isinstance(size, int):
            count *= size
        else:
            number, rest = split(size)
            count *= number
            symbols += rest.split("*")
    return _join(count, symbols)


def quotient(whole: Dim, part: Dim) -> Dim:
    """`whole / part`, or None where that is not a product again."""
    if whole is None or part is None or part == 0:
        return None
    (a, above), (b, below) = _parts(whole), _parts(part)
    if a % b or below - above:
        return None
    return _join(a // b, list((above - below).elements()))


def _parts(size: int | str) -> tuple[int, Counter[str]]:
    if isinstance(size, int):
        return size, Counter()
    count, rest = split(size)
    return count, Counter(rest.split("*"))


def _join(count: int, symbols: list[str]) -> int | str:
    if not symbols or count == 0:
        return count
    return "*".join([str(count)] * (count != 1) + sorted(symbols))
