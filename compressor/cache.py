"""What is kept between runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path

__all__ = ["layer_cache"]

log = logging.getLogger(__name__)


def layer_cache() -> Path | None:
    """Where figures of layers are kept between runs: the user's cache folder (`XDG_CACHE_HOME`), or None."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ortrim"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("latencies of layers are not kept for later runs: %s cannot be made (%s)", folder, error.strerror)
        return None
    return folder / "layers.sqlite"
