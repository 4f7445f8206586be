"""Many names of layers in few lines: what they share is said once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Names", "fold"]

_TOKEN = re.compile(r"\d+|[^\W\d_]+|.", re.DOTALL)
"""Numbers, words, and every other character for itself."""

_RUN = 3
"""From so many consecutive numbers on, only the first and the last are shown."""


@dataclass(frozen=True)
class Names:
    """Names that differ in one place only. A single name has nothing but a head."""

    head: str
    middles: tuple[str, ...] = ()
    tail: str = ""

    def __len__(self) -> int:
        return len(self.middles) or 1

    def __iter__(self) -> Iterator[str]:
        """The names in full."""
        return (self.head + middle + self.tail for middle in self.middles or ("",))

    def __str__(self) -> str:
        """As a shell would write them: `layer{1,2}.conv`, `layer{1..4}.conv`."""
        return "".join(self._pieces())

    def lines(self, width: int) -> list[str]:
        """The text in lines of at most `width` characters, broken between middles; a name is never broken."""
        lines = [""]
        for piece in self._pieces():
            if lines[-1] and len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece
        return lines

    def _pieces(self) -> list[str]:
        """The text, cut where a line may end."""
        if not self.middles:
            return [self.head + self.tail]
        if _is_run(self.middles):
            return [f"{self.head}{{{self.middles[0]}..{self.middles[-1]}}}{self.tail}"]
        first, *between, last = self.middles
        return [f"{self.head}{{{first},", *(f"{middle}," for middle in between), f"{last}}}{self.tail}"]


def fold(names: Iterable[str]) -> tuple[Names, ...]:
    """The names, in their order, each with the first ones before it that differ from it in one number or word."""
    alike: list[_Alike] = []
    for name in names:
        tokens = tuple(_TOKEN.findall(name))
        for place, others in enumerate(alike):
            if (joined := others.join(tokens)) is not None:
                alike[place] = joined
                break
        else:
            alike.append(_Alike((tokens,)))
    return tuple(others.names() for others in alike)


@dataclass(frozen=True)
class _Alike:
    """Names in tokens, that differ at `place` where there are several."""

    members: tuple[tuple[str, ...], ...]
    place: int = -1

    def join(self, tokens: tuple[str, ...]) -> _Alike | None:
        """With one name more, or None where it does not fit."""
        first = self.members[0]
        if len(tokens) != len(first) or not {"{", ",", "}"}.isdisjoint((*first, *tokens)):
            return None  # a name with braces of its own would read as several
        differing = [place for place, (one, other) in enumerate(zip(first, tokens, strict=True)) if one != other]
        if len(differing) != 1 or self.place not in (-1, differing[0]):
            return None
        (place,) = differing
        return _Alike((*self.members, tokens), place) if first[place].isalnum() and tokens[place].isalnum() else None

    def names(self) -> Names:
        first = self.members[0]
        if len(self.members) == 1:
            return Names("".join(first))
        middles = tuple(tokens[self.place] for tokens in self.members)
        return Names("".join(first[: self.place]), middles, "".join(first[self.place + 1 :]))


def _is_run(middles: tuple[str, ...]) -> bool:
    if len(middles) < _RUN or not all(middle.isdecimal() for middle in middles):
        return False
    first = int(middles[0])
    return middles == tuple(str(first + step) for step in range(len(middles)))
