"""What each group is worth: the error of the outputs when it alone is narrowed, after the correction.

The ranking's own figures are of single layers, before the layers after them have made up for it. These cost a
correction each, so they are kept between searches: a second target for the same model and images finds them there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx

from ..errors import OutputError
from .files import write_whole
from .recovery import Corrector, Feeds, OutputDeviation, Ranking, repaired_damage

__all__ = ["MOST_POINTS", "SAMPLES", "Damage", "Kept", "damage_of_groups", "key_of"]

log = logging.getLogger(__name__)

Damage = dict[str, dict[int, float]]
"""Group -> width -> error."""
SAMPLES = 128
"""Of the images that score, for telling what each group is worth."""
MOST_POINTS = 3
"""Widths of a group at which that is measured."""
_VERSION = 2
"""Of the way in which errors come about: what another version kept is not looked at."""


def damage_of_groups(
    model: onnx.ModelProto,
    ranking: Ranking,
    widths: Mapping[str, Sequence[int]],
    held_out: Feeds,
    correct: Callable[[], Corrector],
    kept: Kept,
    *,
    points: int,
    asked: Collection[str] | None = None,
) -> Damage:
    """The error of each width of each group, measured at some of them.

    Args:
        widths: that are offered, of each group.
        held_out: samples that the corrector does not use, for the error.
        correct: makes the corrector; called only where something has to be measured.
        kept: what is known of these very circumstances; gains what is measured.
        points: widths of a group that are measured.
        asked: groups that are measured, all by default; see `repaired_damage`.
    """
    tools: list[tuple[Corrector, OutputDeviation]] = []

    def error(group: str, width: int) -> float:
        if not tools:
            tools.append((correct(), OutputDeviation(model, held_out)))
        corrector, error_of = tools[0]
        return error_of(corrector(ranking.removal({group: width})))

    with kept.writing():
        return repaired_damage(lambda *place: kept.get(place, error), ranking, widths, points=points, asked=asked)


def key_of(model: onnx.ModelProto, ranking: Ranking, feeds: Iterable[Feeds], seed: int) -> str:
    """Digest of all that errors depend on, apart from group and width.

    Args:
        feeds: the samples of correction and error.
        seed: of the correction.
    """
    digest = hashlib.sha256(f"{_VERSION} {seed}".encode())
    digest.update(model.SerializeToString(deterministic=True))
    digest.update(json.dumps({name: list(order) for name, order in ranking.order.items()}).encode())
    for part in feeds:
        for name, array in sorted(part.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


class Kept:
    """Errors by group and width, in a file of the cache folder."""

    def __init__(self, folder: Path | None, key: str) -> None:
        """
        Args:
            folder: of the cache; None keeps nothing.
            key: of `key_of`.
        """
        self._path = None if folder is None else folder / f"{key}.json"
        self._known = {} if self._path is None else _read(self._path)
        self._fresh = False

    def get(self, place: tuple[str, int], measure: Callable[[str, int], float]) -> float:
        """The error at a place (group, width): what is kept, or what `measure` says of it."""
        if place not in self._known:
            self._known[place] = measure(*place)
            self._fresh = True
        return self._known[place]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """At the end, an interruption included, what was measured is written down; trouble with that is only logged."""
        try:
            yield
        finally:
            if self._fresh and self._path is not None:
                entries = [[group, width, error] for (group, width), error in self._known.items()]
                try:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(self._path, json.dumps(entries).encode())
                except (OSError, OutputError) as error:
                    log.warning("what groups are worth is not kept for later runs: %s", error)


def _read(path: Path) -> dict[tuple[str, int], float]:
    """What a file holds; nothing where it is not there, or is none of ours."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        known = {(str(group), int(width)): float(error) for group, width, error in entries}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s is left aside: %s", path, error)
        return {}
    return known if all(map(math.isfinite, known.values())) else {}
