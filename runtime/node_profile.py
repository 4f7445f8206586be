"""Which node ran where and how long, as onnxruntime's own profile says."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DeviceError
from .device import Device
from .inputs import Shapes, feeds_for
from .service import remote
from .session import Model, open_session

__all__ = ["NodeTime", "node_times", "nodes_by_provider", "profiled"]

_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class NodeTime:
    """One node of the graph as onnxruntime executed it, after its optimisations."""

    name: str
    """onnxruntime's name: that of the original node, or one made up by an optimisation (`..._nchwc`, `..._token_3`)."""
    op: str
    provider: str
    milliseconds: float
    """Median wall time of the kernel over the runs. Profiling adds a microsecond or two to every node, which is
    much of what a small one takes: the shares of large nodes can be trusted, the sum is more than the latency."""


def node_times(
    model: Model,
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Shapes | None = None,
    runs: int = 20,
    seed: int = 0,
) -> tuple[NodeTime, ...]:
    """Time and provider of every node, in the order of execution; arguments and errors as of `measure`.

    The first run, which allocates, is left out unless it is the only one.
    """
    if device.is_remote:
        rows = remote.node_rows("nodes", model, device, inputs=inputs, shapes=shapes, runs=runs, seed=seed)
        return tuple(NodeTime(**row) for row in rows)
    return profiled(model, device, inputs=inputs, shapes=shapes, runs=runs, seed=seed)


def profiled(
    model: Model,
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None,
    shapes: Shapes | None,
    runs: int,
    seed: int,
    optimized_path: Path | None = None,
) -> tuple[NodeTime, ...]:
    """`node_times`, which also writes the graph that onnxruntime ran where `optimized_path` is given."""
    with tempfile.TemporaryDirectory(prefix="ortrim-profile-") as folder:
        prefix = Path(folder) / "profile"
        session = open_session(model, device, profile_prefix=prefix, optimized_path=optimized_path)
        feeds = feeds_for(session, inputs, shapes, seed)
        for _ in range(runs + 1 if runs > 1 else 1):
            session.run(feeds)
        profile = session.end_profiling()
        try:
            events = json.loads(profile.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"device {device}: the profile of model {session.name} cannot be read: {error}"
            ) from error
    return _node_times(events)


def nodes_by_provider(
    model: Model,
    device: Device,
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Shapes | None = None,
    seed: int = 0,
) -> dict[str, int]:
    """How many nodes each execution provider ran, most first: what the device's provider left to another shows."""
    times = node_times(model, device, inputs=inputs, shapes=shapes, runs=1, seed=seed)
    return dict(Counter(node.provider for node in times).most_common())


def _node_times(events: list[dict[str, object]]) -> tuple[NodeTime, ...]:
    durations: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        name, details = str(event.get("name", "")), event.get("args")
        if event.get("cat") == "Node" and name.endswith(_KERNEL) and isinstance(details, dict):
            key = (name.removesuffix(_KERNEL), str(details.get("op_name", "")), str(details.get("provider", "")))
            durations[key].append(float(str(event.get("dur", 0))) / 1e3)
    return tuple(
        NodeTime(name, op, provider, float(np.median(taken[1:] or taken)))
        for (name, op, provider), taken in durations.items()
    )
