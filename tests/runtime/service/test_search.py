"""A whole search against a service that does not have a good day."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from .conftest import OPSET, needs_proc

_DIGITS = Path(__file__).parents[3] / "models" / "digits" / "digits_train.npz"
_EPISODES = 40
"""Enough that the search cannot end while the service starts again; five groups have as many plans."""


def _classifier() -> onnx.ModelProto:
    """Five convolutions and a classifier with random weights: what it says of digits is of no matter here."""
    rng = np.random.default_rng(0)
    channels = (1, 64, 64, 64, 64, 64)
    weights = [numpy_helper.from_array(rng.standard_normal((64, 10), np.float32), "classes")]
    nodes, tensor = [], "x"
    for index, (before, after) in enumerate(pairwise(channels)):
        values = rng.standard_normal((after, before, 3, 3), np.float32) / 3 / before**0.5
        weights.append(numpy_helper.from_array(values, f"w{index}"))
        nodes.append(helper.make_node("Conv", [tensor, f"w{index}"], [f"c{index}"], f"conv{index}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        tensor = f"r{index}"
    nodes += [
        helper.make_node("GlobalAveragePool", [tensor], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["f"]),
    ]
    nodes.append(helper.make_node("MatMul", ["f", "classes"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=OPSET, ir_version=8)


def _trials(run: Path) -> int:
    """Candidates on record."""
    try:
        with closing(sqlite3.connect(f"file:{run / 'trials.sqlite'}?mode=ro", uri=True)) as database:
            return database.execute("SELECT COUNT(*) FROM trials").fetchone()[0]
    except sqlite3.OperationalError:  # not yet made
        return 0


@pytest.mark.slow
@needs_proc()
def test_a_search_survives_its_device(own_service, tmp_path):
    """The worker is killed, then the service is; then it is lost for good, and back for --resume."""
    service = own_service()
    run, output = tmp_path / "run", tmp_path / "slim.onnx"
    onnx.save(_classifier(), tmp_path / "net.onnx")
    command = [sys.executable, "-m", "ortrim.compressor.cli", "compress", str(tmp_path / "net.onnx")]
    command += ["--data", str(_DIGITS), "--latency", "0.8x", "--device", service.address]
    command += ["--agent", "random", "--episodes", str(_EPISODES), "--calibration", "48", "-o", str(output)]
    command += ["--correction", "independent"]
    command += ["--run-dir", str(run), "--json"]
    environment = {**os.environ, "ORTRIM_PATIENCE": "5", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    search = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def until(trials: int) -> None:
        end = time.monotonic() + 120
        while _trials(run) < trials:
            assert search.poll() is None, search.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)

    until(1)
    os.kill(service.worker(), signal.SIGKILL)
    until(3)
    service.stop(signal.SIGKILL)
    service.start()
    until(5)
    service.stop(signal.SIGKILL)
    _, said = search.communicate(timeout=60)
    assert search.returncode == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"Error: device {service.address} was lost: ")
    assert "--resume" in last
    assert "Traceback" not in said
    assert not output.exists()
    done = _trials(run)
    assert 5 <= done < _EPISODES

    service.start()
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert done < found["search"]["episodes"] <= _EPISODES  # it may run out of plans
    assert found["latency"]["ratio"] <= 0.8
    assert found["device"]["spec"] == service.address
    assert found["device"]["cpu"]
    with closing(sqlite3.connect(run / "trials.sqlite")) as database:
        baselines = [row[0] for row in database.execute("SELECT baseline_ms FROM trials")]
    assert max(baselines) < 3 * min(baselines)


@pytest.mark.slow
def test_the_stress_of_sixteen_clients():
    """A fifth of what `benchmarks/service_stress.py` does by itself."""
    script = Path(__file__).parents[3] / "benchmarks" / "service_stress.py"
    done = subprocess.run(
        [sys.executable, script, "--requests", "200", "--no-store"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
