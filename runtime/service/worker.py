"""The process that measures, and its twin that looks at uploads: `python -m ortrim.runtime.service.worker`.

It reads one JSON object a line on standard input and answers each with one on standard output. A model may crash it,
hang it or ask for more memory than there is: the service then ends it and starts another. Sessions of baselines stay
open and warm between tasks, since a search asks for hundreds of candidates against the same one.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import OrtrimError
from ..comparator import Comparator
from ..device import Device
from ..explain import explain
from ..interleave import Effort
from ..latency import compare_many, measure
from ..node_profile import node_times
from ..table import Costs, layer_costs
from .arrays import decode_arrays
from .gate import fault_in
from .protocol import Task

__all__ = ["Worker", "main"]

_KEPT_COMPARATORS = 2
_LARGEST_FILE = 2**29
"""Of profiles, the only files that a worker writes."""


class Worker:
    """Makes the measurements of one device.

    Args:
        folder: the service's own, with `models` and `inputs`.
    """

    def __init__(self, device: Device, folder: Path) -> None:
        self.device = device
        self._folder = folder
        self._comparators: OrderedDict[tuple[object, ...], Comparator] = OrderedDict()
        self._costs: Costs | None = None
        self._kinds: dict[str, Callable[[Task], Any]] = {
            "measure": self._measure,
            "compare": self._compare,
            "ratios": self._ratios,
            "nodes": self._nodes,
            "explain": self._explain,
            "layers": self._layers,
        }

    def perform(self, task: Task) -> Any:  # noqa: ANN401 (plain values that JSON can hold)
        """The result of a task as plain values.

        Raises:
            OrtrimError: as of the function that the task is named after.
            MemoryError: it needs more than there is.
        """
        return self._kinds[task.kind](task)

    def _measure(self, task: Task) -> Any:  # noqa: ANN401
        return measure(
            self._model(task.models[0]),
            self.device,
            inputs=self._inputs(task),
            shapes=task.shapes,
            seconds=task.seconds,
            precision=task.precision,
            seed=task.seed,
        ).to_dict()

    def _compare(self, task: Task) -> Any:  # noqa: ANN401
        baseline, *candidates = map(self._model, task.models)
        ratios = compare_many(
            baseline,
            candidates,
            self.device,
            inputs=self._inputs(task),
            shapes=task.shapes,
            seconds=task.seconds,
            precision=task.precision,
            seed=task.seed,
        )
        return [ratio.to_dict() for ratio in ratios]

    def _ratios(self, task: Task) -> Any:  # noqa: ANN401
        comparator = self._comparator(task)
        comparator.known_ms = task.known_ms
        candidates = [self._model(name) for name in task.models[1:]]
        return [ratio.to_dict() for ratio in comparator.ratios(candidates, limit=task.limit)]

    def _nodes(self, task: Task) -> Any:  # noqa: ANN401
        times = node_times(
            self._model(task.models[0]),
            self.device,
            inputs=self._inputs(task),
            shapes=task.shapes,
            runs=task.runs,
            seed=task.seed,
        )
        return [asdict(time) for time in times]

    def _explain(self, task: Task) -> Any:  # noqa: ANN401
        found = explain(
            self._model(task.models[0]),
            self.device,
            inputs=self._inputs(task),
            shapes=task.shapes,
            runs=task.runs,
            seed=task.seed,
        )
        return asdict(found)

    def _layers(self, task: Task) -> Any:  # noqa: ANN401
        self._costs = self._costs or layer_costs(self.device)
        unit_ms, measured = self._costs(task.layers, task.known_ms)
        return {"unit_ms": unit_ms, "milliseconds": measured}

    def _comparator(self, task: Task) -> Comparator:
        """The one that has the task's baseline open, or a new one."""
        shapes = tuple(sorted(task.shapes.items()))
        effort = Effort(task.seconds, task.precision, task.rounds, task.block_ms)
        key = (task.models[0], task.inputs, shapes, effort, task.keep, task.seed)
        if key not in self._comparators:
            while len(self._comparators) >= _KEPT_COMPARATORS:
                self._comparators.popitem(last=False)[1].close()
            self._comparators[key] = Comparator(
                self._model(task.models[0]),
                self.device,
                inputs=self._inputs(task),
                shapes=task.shapes,
                seed=task.seed,
                effort=effort,
                keep=task.keep,
            )
        self._comparators.move_to_end(key)
        return self._comparators[key]

    def _model(self, digest: str) -> Path:
        """Relative, so that messages name the hash and not the service's folder."""
        return Path(f"{digest}.onnx")

    def _inputs(self, task: Task) -> dict[str, np.ndarray] | None:
        if task.inputs is None:
            return None
        return decode_arrays((self._folder / "inputs" / f"{task.inputs}.bin").read_bytes())


def _answer(worker: Worker, message: dict[str, Any]) -> dict[str, Any]:
    """What a line is answered with. What nobody foresaw ends the process, and the service says so."""
    try:
        if "check" in message:
            return {"result": fault_in(message["check"], Path(message["path"]))}
        return {"result": worker.perform(Task.from_dict(message["task"]))}
    except OrtrimError as error:
        return {"error": {"kind": type(error).__name__, "message": str(error)}}
    except MemoryError:
        # The heap may be in pieces by now: better a fresh process for whoever is next.
        return {"error": {"kind": "MemoryError", "message": "more memory than the service allows"}, "spent": True}


def limit_memory(megabytes: int) -> None:
    """Makes allocations fail beyond a limit, no matter who asks for them; where the system cannot do it, nothing.

    Data, not address space: providers of GPUs reserve address space by the terabyte that they never use.
    """
    try:
        import resource
    except ImportError:
        return
    wanted = {resource.RLIMIT_DATA: megabytes * 2**20, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: _LARGEST_FILE}
    for kind, limit in wanted.items():
        _, most = resource.getrlimit(kind)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (limit, limit))


def _lines(source: BinaryIO) -> queue.SimpleQueue[bytes]:
    """What comes in. A service that is gone closes the pipe, and that ends this process, whatever it is doing."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in source:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for messages alone: what libraries print goes to standard error instead."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return source, sink


def main(spec: str, folder: Path, name: str, memory_mb: int) -> None:
    """Answers messages until there are no more.

    Args:
        spec: the device.
        folder: the service's own.
        name: of a folder in it for temporary files, which this process has to itself.
        memory_mb: what it may use.
    """
    source, sink = _private_streams()
    scratch = folder / name
    shutil.rmtree(scratch, ignore_errors=True)  # of a worker that was killed
    scratch.mkdir(mode=0o700)
    tempfile.tempdir = str(scratch)
    os.chdir(folder / "models")
    limit_memory(memory_mb)
    if name == "checking" and hasattr(os, "nice"):
        os.nice(10)  # uploads come while others are measured
    worker = Worker(Device.parse(spec), folder)
    lines = _lines(source)
    message: dict[str, Any] = {"ready": True}
    while True:
        sink.write(json.dumps(message, allow_nan=False).encode() + b"\n")
        sink.flush()
        message = _answer(worker, json.loads(lines.get()))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
