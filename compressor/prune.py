"""One ratio for every group, without a search: a quick look, and something to compare a search with."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import onnx

from .. import graph
from ..errors import InputError, NothingToPruneError
from .data import InputSpec, Preprocessing, load_data
from .facts import version
from .files import sha256
from .recovery import METHODS, Refitter, gather, rank
from .search.candidates import prunable_groups

__all__ = ["Pruned", "prune", "width_for"]

CALIBRATION = 768
"""Images that the weights which are left are fitted on."""
NEED_IMAGES = ("refit", "taylor", "activation")


@dataclass(frozen=True)
class Pruned:
    """What came of pruning."""

    original: onnx.ModelProto = field(repr=False)
    """As `load` gave it."""
    model: onnx.ModelProto = field(repr=False)
    """The slim model, fit to be written."""
    plan: dict[str, int]
    """Group -> units kept, of the groups that lost some."""
    importance: str
    """How units were ranked."""


def prune(
    model: str | os.PathLike[str],
    ratio: float,
    *,
    data: str | os.PathLike[str] | None = None,
    importance: str | None = None,
    multiple: int = 1,
    keep: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> Pruned:
    """Take the same share of units out of every group, the least important first; never all of them.

    With images, what is left is fitted by least squares to compute what the original did.

    Args:
        ratio: share of every group's units that goes, above 0 and below 1.
        data: images, see `load_data`; labels are not used.
        importance: one of `METHODS`; by default `refit` with images and `l2` without.
        multiple: units kept are rounded up to a multiple of this.
        keep: patterns (shell wildcards) of layers to be left alone.
        preprocessing, size: how the images are brought into the model's form.
        seed: of what is random.

    Raises:
        InputError: a ratio, multiple, importance, model, pattern or data that cannot be used.
        NothingToPruneError: no group can lose a unit, or none does at this ratio and multiple.
        VerificationError: the slim graph does not compute what it should.
    """
    importance = _checked(ratio, importance, multiple, data is not None)
    loaded = graph.load(model)
    analysis = graph.analyze(loaded)
    widths = {group.name: width_for(group.size, ratio, multiple) for group in prunable_groups(analysis, keep)}
    plan = {name: width for name, width in widths.items() if width < analysis.group(name).size}
    if not plan:
        raise NothingToPruneError(
            f"nothing to prune: --ratio {ratio:g} takes no whole unit out of any group"
            + (f" when --round {multiple} rounds up what is kept" if multiple > 1 else "")
        )
    feeds = None
    if data is not None:
        spec = InputSpec.from_model(loaded, size)
        feeds = load_data(Path(data), spec, preprocessing, CALIBRATION, seed).unlabelled().feeds()
    moments = None if feeds is None else gather(loaded, analysis, feeds, seed=seed)
    removal = rank(loaded, analysis, importance, moments, images=feeds, seed=seed).removal(plan)
    small = graph.slim(loaded, removal, analysis=analysis)
    graph.verify(loaded, small, removal, analysis=analysis, seed=seed)
    if moments is not None:
        small = graph.slim(Refitter(loaded, analysis, moments)(removal), removal, analysis=analysis)
    header = {
        "ortrim.version": version(),
        "ortrim.source_sha256": sha256(Path(model)),
        "ortrim.ratio": f"{ratio:g}",
        "ortrim.importance": f"{importance}, seed {seed}",
        "ortrim.plan": json.dumps(plan),
    }
    return Pruned(loaded, graph.finish(small, header), plan, importance)


def width_for(size: int, ratio: float, multiple: int = 1) -> int:
    """Units that a group of `size` keeps: at least one, rounded up to a multiple where it has so many."""
    # Floating point: 0.3 of 10 units are 3, though 10 * (1 - 0.3) is a little above 7.
    kept = max(1, ceil(size * (1 - ratio) - 1e-9))
    return min(size, ceil(kept / multiple) * multiple)


def _checked(ratio: float, importance: str | None, multiple: int, has_data: bool) -> str:
    """The importance to use, when the settings make sense."""
    if not 0 < ratio < 1:
        raise InputError(f"--ratio must be a share between 0 and 1, as 0.3, got {ratio:g}")
    if multiple < 1:
        raise InputError(f"--round must be 1 or more, got {multiple}")
    if importance is None:
        return "refit" if has_data else "l2"
    if importance not in METHODS:
        raise InputError(f"unknown importance {importance!r}; --importance takes one of: {', '.join(METHODS)}")
    if importance in NEED_IMAGES and not has_data:
        raise InputError(f"--importance {importance} needs images: give --data, or take l2")
    return importance
