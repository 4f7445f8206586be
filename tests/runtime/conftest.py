"""Small models made on the spot, and a machine whose time is made up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.runtime import Device, pace


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Figures of layers need not be good here: the machine is not watched for a second before the first."""
    monkeypatch.setattr(pace, "_BETWEEN_S", 0.0)


@pytest.fixture
def device() -> Device:
    return Device.parse("cpu:threads=1")


@pytest.fixture
def conv_net() -> Callable[..., onnx.ModelProto]:
    """Makes a chain of 3x3 convolutions with Relu; input `x`, with a dynamic batch where asked."""

    def make(channels=16, size=16, layers=2, batch: int | str = 1, name="x") -> onnx.ModelProto:
        rng = np.random.default_rng(0)
        nodes, initializers, tensor, before = [], [], name, 3
        for index in range(layers):
            weight = rng.standard_normal((channels, before, 3, 3)).astype(np.float32) / (3 * before**0.5)
            initializers.append(numpy_helper.from_array(weight, f"w{index}"))
            inputs, middle = [tensor, f"w{index}"], f"c{index}"
            nodes.append(helper.make_node("Conv", inputs, [middle], name=f"conv{index}", pads=[1, 1, 1, 1]))
            tensor, before = f"r{index}", channels
            nodes.append(helper.make_node("Relu", [middle], [tensor], name=f"relu{index}"))
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, size, size])],
            [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)],
            initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    return make


class SimulatedMachine:
    """One core, shared: of every `period_ms` another process has `stolen_ms`. Time passes only when work is done."""

    def __init__(self, period_ms=8.0, stolen_ms=0.0, seed=0) -> None:
        self.now_ms = 1e3
        self.cpu_ms = 0.0
        self.speed = 1.0
        self._period, self._stolen = period_ms, stolen_ms
        self._rng = np.random.default_rng(seed)

    def work(self, milliseconds: float) -> None:
        cost = milliseconds * self.speed * float(np.exp(0.01 * self._rng.standard_normal()))
        self.cpu_ms += cost
        while cost > 0:
            phase = self.now_ms % self._period
            if phase < self._stolen:
                self.now_ms += self._stolen - phase
                continue
            step = min(cost, self._period - phase)
            self.now_ms += step + 1e-9
            cost -= step

    # The part of the `time` module that the timing loop uses.
    def perf_counter(self) -> float:
        return self.now_ms / 1e3

    def perf_counter_ns(self) -> int:
        return round(self.now_ms * 1e6)

    def thread_time_ns(self) -> int:
        return round(self.cpu_ms * 1e6)


class SimulatedSession:
    """A model that costs so many milliseconds a call on a simulated machine."""

    def __init__(self, machine: SimulatedMachine, milliseconds: float) -> None:
        self._machine, self._milliseconds = machine, milliseconds

    def bind(self, _feeds) -> Callable[[], None]:
        return lambda: self._machine.work(self._milliseconds)

    def running(self) -> nullcontext[None]:
        return nullcontext()


@pytest.fixture
def simulated() -> tuple[type[SimulatedMachine], type[SimulatedSession]]:
    return SimulatedMachine, SimulatedSession
