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
from .recovery import Feeds, Place, Ranking, repaired_damage

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
    ranking: Ranking,
    widths: Mapping[str, Sequence[int]],
    errors: Callable[[Sequence[Place]], Sequence[float]],
    kept: Kept,
    *,
    points: int,
    asked: Collection[str] | None = None,
    at_a_time: int = 1,
) -> Damage:
    """The error of each width of each group, measured at some of them.

    Args:
        widths: that are offered, of each group.
        errors: of the nets of which one group is narrowed, on samples that the corrector does not use; called only
            where something has to be measured.
        kept: what is known of these very circumstances; gains what is measured.
        points: widths of a group that are measured.
        asked: groups that are measured, all by default; see `repaired_damage`.
        at_a_time: places that `errors` is asked about together, and that an interruption loses.
    """
    with kept.writing():
        return repaired_damage(
            lambda places: kept.get(places, errors, at_a_time), ranking, widths, points=points, asked=asked
        )


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

    def get(
        self, places: Sequence[Place], measure: Callable[[Sequence[Place]], Sequence[float]], at_a_time: int = 1
    ) -> list[float]:
        """The errors at some places: what is kept, or what `measure` says of so many at a time."""
        unknown = [place for place in places if place not in self._known]
        for first in range(0, len(unknown), at_a_time):
            some = unknown[first : first + at_a_time]
            self._known.update(zip(some, measure(some), strict=True))
            self._fresh = True
        return [self._known[place] for place in places]

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


def _read(path: Path) -> dict[Place, float]:
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
