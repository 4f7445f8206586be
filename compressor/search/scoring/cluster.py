"""Scoring on a Ray cluster: `pip install ortrim[ray]`, and ortrim installed on every machine of it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any

from ....errors import InputError, JobError
from ..space import Widths
from .maker import Failed, Maker, Scored

try:
    import ray
    from ray.exceptions import RayError
except ImportError as error:
    raise InputError("--ray needs Ray, which is not installed: pip install 'ortrim[ray]'") from error

__all__ = ["LOCAL", "Cluster"]

LOCAL = "local"
"""Address that starts a cluster on this machine."""
PATIENCE = 5.0
"""Seconds to wait for the cluster's machine to answer."""
RETRIES = 5
"""How often Ray tries a candidate again whose worker dies."""


class Cluster:
    """Workers of a Ray cluster. Ray itself tries again on another worker where one dies.

    Args:
        maker: is sent to every machine once.
        jobs: candidates at a time; on a local cluster as many workers.
        address: of the cluster, as `ray.init` takes it, or `local`.

    Raises:
        JobError: the cluster cannot be reached.
    """

    def __init__(self, maker: Maker, jobs: int, address: str) -> None:
        self.maker, self.jobs = maker, jobs
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if address == LOCAL:
                ray.init(num_cpus=jobs, **quiet)
            else:
                _knock(address)
                ray.init(address=address, **quiet)
        except (RayError, OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise JobError(f"--ray {address}: no Ray cluster can be used there ({reason})") from error
        self._sent = ray.put(maker)
        self._score, self._error = (ray.remote(num_cpus=1, max_retries=RETRIES)(judge) for judge in (_score, _error))

    def score(self, plans: Sequence[Widths]) -> list[Scored | Failed]:
        return self._each(self._score, plans)

    def errors(self, plans: Sequence[Widths]) -> list[float]:
        return self._each(self._error, plans)

    def _each(self, judge: Any, plans: Sequence[Widths]) -> list[Any]:  # noqa: ANN401 (Ray's own types are of no help)
        try:
            return ray.get([judge.remote(self._sent, dict(plan)) for plan in plans])
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise JobError(f"the Ray cluster could not score a candidate: {reason}") from error

    def close(self) -> None:
        ray.shutdown()


def _knock(address: str) -> None:
    """Whether anybody is there: Ray itself waits for many minutes.

    Raises:
        OSError: nobody answers at `host:port`. Other forms of address are left to Ray.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


def _score(maker: Maker, plan: Widths) -> Scored | Failed:
    return maker(plan)


def _error(maker: Maker, plan: Widths) -> float:
    return maker.error(plan)
