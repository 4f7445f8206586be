"""Building and scoring candidates: here, in other processes (`--jobs N`), or on a Ray cluster (`--ray ADDRESS`).

Latency is no part of this: it is measured on the target device alone, by the process that searches, and never while
other processes compute on the same machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .maker import FAULTS, Failed, Maker, Scored
from .workers import Here, Processes, Workers

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FAULTS", "Failed", "Here", "Maker", "Processes", "Scored", "Workers", "open_workers"]


def open_workers(make: Callable[[int], Maker], jobs: int, cluster: str | None, cores: int) -> Workers:
    """What scores the candidates of a search.

    Args:
        make: a maker that uses so many threads.
        jobs: candidates at a time.
        cluster: address of a Ray cluster (`local` starts one here); None for processes of this machine.
        cores: of this machine.

    Raises:
        InputError: a cluster is named and Ray is not installed.
        JobError: the cluster cannot be reached.
    """
    if cluster is not None:
        from .cluster import Cluster

        return Cluster(make(1), jobs, cluster)
    if jobs > 1:
        return Processes(make(max(1, cores // jobs)), jobs)
    return Here(make(cores))
