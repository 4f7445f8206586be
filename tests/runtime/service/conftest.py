"""A real service: a process of its own on loopback, with short limits."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ortrim.runtime import Device

OPSET = [helper.make_opsetid("", 17)]


class Running:
    """A service that can be killed and started again at the same address."""

    def __init__(self, folder: Path, *options: str, token: str | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self._options, self._token = folder, options, token
        self.process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def device(self) -> Device:
        return Device.parse(self.address)

    def start(self) -> Running:
        command = [sys.executable, "-m", "ortrim.runtime.service", "--port", str(self.port), "--folder", self.folder]
        environment = {**os.environ, **({} if self._token is None else {"ORTRIM_TOKEN": self._token})}
        self.process = subprocess.Popen(
            [*command, *self._options], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        assert self.process.stdout is not None
        assert f":{self.port}" in self.process.stdout.readline()
        return self

    def stop(self, kind: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(kind)
        return self.process.wait(20)

    def workers(self, name: str = "measuring") -> list[int]:
        """Process ids of its workers of that name."""
        assert self.process is not None
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(entry.read_text().rpartition(")")[2].split()[1])
                command = (entry.parent / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if parent == self.process.pid and name.encode() in command:
                found.append(int(entry.parent.name))
        return found

    def worker(self, seconds: float = 20.0) -> int:
        """Process id of its measuring worker, waited for."""
        end = time.monotonic() + seconds
        while not (found := self.workers()):
            assert time.monotonic() < end
            time.sleep(0.05)
        return found[0]

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """One request as any program could send it; underscores in names of headers stand for dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def needs_proc() -> pytest.MarkDecorator:
    return pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")


@pytest.fixture(scope="session")
def service(tmp_path_factory) -> Iterator[Running]:
    """One for all tests that leave it as it was."""
    limits = ("--memory-mb", "1500", "--job-seconds", "6", "--max-model-mb", "4", "--store-mb", "12")
    running = Running(tmp_path_factory.mktemp("service"), *limits).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def own_service(tmp_path) -> Iterator[Callable[..., Running]]:
    """Makes services that a test has to itself."""
    made: list[Running] = []

    def make(*options: str, token: str | None = None) -> Running:
        made.append(Running(tmp_path / f"service{len(made)}", *options, token=token))
        return made[-1].start()

    yield make
    for running in made:
        assert running.process is not None
        if running.process.poll() is None:
            running.stop(signal.SIGKILL)


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch, tmp_path):
    """Devices and tokens of whoever runs the tests do not matter."""
    monkeypatch.setenv("ORTRIM_CONFIG", str(tmp_path / "devices.toml"))
    monkeypatch.delenv("ORTRIM_TOKEN", raising=False)


def model_of(nodes, initializers=(), shape=(1, 8), name="net") -> onnx.ModelProto:
    """A model from `x` to `y`."""
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=OPSET, ir_version=8)


def small_model(seed: int = 0) -> onnx.ModelProto:
    """A product with a matrix, another for each seed."""
    weight = np.random.default_rng(seed).standard_normal((8, 8)).astype(np.float32)
    return model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], [onnx.numpy_helper.from_array(weight, "w")])


def endless_model() -> onnx.ModelProto:
    """A loop of more rounds than anybody has time for."""
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Sin", ["a"], ["b"])],
        "body",
        [
            scalar("i", TensorProto.INT64, []),
            scalar("on", TensorProto.BOOL, []),
            scalar("a", TensorProto.FLOAT, [1, 8]),
        ],
        [scalar("still", TensorProto.BOOL, []), scalar("b", TensorProto.FLOAT, [1, 8])],
    )
    constants = [
        helper.make_tensor("times", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("true", TensorProto.BOOL, [], [True]),
    ]
    return model_of([helper.make_node("Loop", ["times", "true", "x"], ["y"], body=body)], constants, name="endless")


def huge_model() -> onnx.ModelProto:
    """A hundred gigabytes, made of nothing when it runs."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [25_000, 1_000_000])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=1),
        helper.make_node("Expand", ["total", "sizes"], ["big"]),
        helper.make_node("Sin", ["big"], ["y"]),
    ]
    return model_of(nodes, [sizes], name="huge")
