"""What is kept between runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path

__all__ = ["damage_cache", "layer_cache"]

log = logging.getLogger(__name__)


def layer_cache() -> Path | None:
    """Where figures of layers are kept between runs: in the user's cache folder (`XDG_CACHE_HOME`), or None."""
    folder = _folder()
    return None if folder is None else folder / "layers.sqlite"


def damage_cache() -> Path | None:
    """The folder where it is kept between runs what groups are worth, or None."""
    folder = _folder()
    return None if folder is None else folder / "damage"


def _folder() -> Path | None:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ortrim"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("nothing is kept for later runs: %s cannot be made (%s)", folder, error.strerror)
        return None
    return folder
