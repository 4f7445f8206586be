"""Sixteen clients, a thousand requests, every kind of bad one: does the service stay up, right and small?

    python benchmarks/service_stress.py [--requests 1000] [--clients 16] [--no-store]

Exit status 1 where anything was not as it should be.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from common import store
from onnx import TensorProto, helper, numpy_helper

from ortrim.errors import OrtrimError
from ortrim.runtime import LayerShape
from ortrim.runtime.service.client import Client, upload_of_model
from ortrim.runtime.service.config import Access
from ortrim.runtime.service.protocol import Task

TOKEN = "stress"
LIMITS = {"--memory-mb": 1500, "--job-seconds": 3, "--max-model-mb": 4, "--store-mb": 12}
MOST_GROWTH_MB = 24


def chain(count: int) -> onnx.ModelProto:
    """So many products one after the other: an answer tells which model it is of."""
    weight = numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    names = ["x", *(f"t{index}" for index in range(1, count)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], "w"], [names[i + 1]]) for i in range(count)]
    return model(nodes, [weight], [64, 64])


def model(nodes: list[onnx.NodeProto], initializers: list[TensorProto], shape: list[int]) -> onnx.ModelProto:
    """From `x` to `y`."""
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "stress", values, results, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def huge() -> onnx.ModelProto:
    """A hundred gigabytes when it runs."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [25_000, 1_000_000])
    nodes = [helper.make_node("Expand", ["x", "sizes"], ["big"]), helper.make_node("Sin", ["big"], ["y"])]
    return model(nodes, [sizes], [1, 1])


def endless() -> onnx.ModelProto:
    """A loop of more rounds than anybody has time for."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Sin", ["a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 8]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 8]),
        ],
    )
    constants = [
        helper.make_tensor("times", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("true", TensorProto.BOOL, [], [True]),
    ]
    return model([helper.make_node("Loop", ["times", "true", "x"], ["y"], body=body)], constants, [1, 8])


class Clients:
    """What one of the clients does, good and bad; every method says what was wrong with the answer, if anything."""

    def __init__(self, port: int, seed: int) -> None:
        self._port, self._random = port, random.Random(seed)
        self._client = Client(Access(f"http://127.0.0.1:{port}", TOKEN, None, 120.0))
        self._chains = {count: chain(count) for count in (1, 2, 3, 5, 8, 13)}

    def good_nodes(self) -> str:
        count = self._random.choice(list(self._chains))
        upload = upload_of_model(self._chains[count])
        found = self._client.run(Task("nodes", models=(upload.digest,), runs=1), [upload])
        return "" if [node["op"] for node in found] == ["MatMul"] * count else f"{count} products are {found}"

    def good_ratio(self) -> str:
        long, short = upload_of_model(self._chains[13]), upload_of_model(self._chains[2])
        task = Task("ratios", models=(long.digest, short.digest), seconds=0.1, rounds=2, block_ms=2.0, keep=1)
        value = self._client.run(task, [long, short])[0]["value"]
        return "" if 0.05 < value < 0.5 else f"2 of 13 products take {value:.2f} of the time"

    def no_token(self) -> str:
        return self._expect(401, "PUT", "/models/" + "a" * 64, b"x", token=None)

    def wrong_token(self) -> str:
        return self._expect(401, "POST", "/jobs", b"{}", token="guess")

    def oversized(self) -> str:
        return self._expect(413, "PUT", "/models/" + "a" * 64, bytes(5 * 2**20))

    def not_onnx(self) -> str:
        content = self._random.randbytes(2000)
        return self._expect(422, "PUT", f"/models/{hashlib.sha256(content).hexdigest()}", content)

    def wrong_hash(self) -> str:
        return self._expect(422, "PUT", "/models/" + "b" * 64, chain(1).SerializeToString())

    def path_names(self) -> str:
        name = self._random.choice(["..%2f..%2fx", "%2e%2e", "x.onnx", "%00", "C:%5cx", "a" * 63 + "%2f"])
        status = self._status("PUT", f"/models/{name}", b"x")
        return "" if status in (400, 404) else f"{name}: {status}"

    def bad_message(self) -> str:
        bodies = [b"", b"{", b"[" * 90_000, b"\xff", b'{"version": 1, "id": "../x", "task": {}}', b"[1]"]
        return self._expect(400, "POST", "/jobs", self._random.choice(bodies))

    def truncated(self) -> str:
        head = b"PUT /models/%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer stress\r\n" % (b"c" * 64)
        return self._leave(head + b"Content-Length: 3000000\r\n\r\n" + bytes(self._random.randrange(1_000_000)))

    def half_a_request(self) -> str:
        return self._leave(
            self._random.choice([b"", b"GET /hea", b"\x16\x03\x01\x00", b"POST /jobs HTTP/1.1\r\nHost: "])
        )

    def leaves_its_job(self) -> str:
        upload = upload_of_model(self._chains[1])
        task = Task("nodes", models=(upload.digest,), runs=1).to_dict()
        body = json.dumps({"version": 1, "id": uuid.uuid4().hex, "task": task}).encode()
        head = "POST /jobs?wait=20 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer stress\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return self._leave(head.encode() + body)

    def hostile_sizes(self) -> str:
        shape = LayerShape("Gemm", *self._random.choice([(2**19, 2**19), (2**30, 8), (8, 2**31 - 1)]), (1,))
        return self._refused(Task("layers", layers=(shape,)))

    def hundred_gigabytes(self) -> str:
        upload = upload_of_model(huge())
        return self._refused(Task("measure", models=(upload.digest,), seconds=0.1), upload)

    def never_ends(self) -> str:
        upload = upload_of_model(endless())
        return self._refused(Task("measure", models=(upload.digest,), seconds=0.1), upload)

    def _refused(self, task: Task, *uploads: object) -> str:
        try:
            found = self._client.run(task, uploads)  # type: ignore[arg-type]
        except OrtrimError as error:
            return "" if "\n" not in str(error) else f"not in one line: {error}"
        return f"answered: {found}"

    def _expect(self, wanted: int, method: str, path: str, body: bytes, token: str | None = TOKEN) -> str:
        status = self._status(method, path, body, token)
        return "" if status in (wanted, 0) else f"{method} {path[:20]}: {status} and not {wanted}"

    def _status(self, method: str, path: str, body: bytes, token: str | None = TOKEN) -> int:
        """Of the answer; 0 where the service hung up while it was told what it did not want to hear."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            connection.request(method, path, body, headers)
            return connection.getresponse().status
        except (BrokenPipeError, ConnectionResetError):
            return 0
        finally:
            connection.close()

    def _leave(self, sent: bytes) -> str:
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(sent)
        return ""


COMMON = ("good_nodes", "good_ratio", "no_token", "wrong_token", "oversized", "not_onnx", "wrong_hash", "path_names")
COMMON += ("bad_message", "truncated", "half_a_request", "leaves_its_job")
DEAR = ("hostile_sizes", "hundred_gigabytes", "never_ends")
"""Each of these costs a worker, or seconds: one in fifty."""


def resident_mb(pid: int) -> float:
    """Memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def stress(requests: int, clients: int, folder: Path) -> tuple[list[dict[str, object]], list[str]]:
    """Rows for the table, and all that was not as it should be."""
    (folder / "token").write_text(TOKEN, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [str(item) for pair in LIMITS.items() for item in pair]
    command = [sys.executable, "-m", "ortrim.runtime.service", "--port", str(port), "--folder", str(folder / "service")]
    service = subprocess.Popen(
        [*command, "--token-file", str(folder / "token"), *options], stdout=subprocess.PIPE, text=True
    )
    assert service.stdout is not None
    service.stdout.readline()
    names = [DEAR[n // 50 % 3] if n % 50 == 25 else COMMON[n % len(COMMON)] for n in range(requests)]
    random.Random(0).shuffle(names)
    faults: list[str] = []
    counts: Counter[str] = Counter()
    memory: list[float] = []
    lock = threading.Lock()

    def work(seed: int) -> None:
        client = Clients(port, seed)
        while True:
            with lock:
                if not names:
                    return
                name = names.pop()
            ask: Callable[[], str] = getattr(client, name)
            try:
                fault = ask()
            except (OrtrimError, OSError, http.client.HTTPException) as error:
                fault = f"{type(error).__name__}: {error}"
            with lock:
                counts[name] += 1
                memory.append(resident_mb(service.pid))
                if fault:
                    faults.append(f"{name}: {fault}")

    started = time.perf_counter()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if service.poll() is not None:
        faults.append(f"the service ended with {service.returncode}")
    elif fault := Clients(port, 99).good_nodes():
        faults.append(f"after it all: {fault}")
    settled, last = max(memory[len(memory) // 5 : 2 * len(memory) // 5]), max(memory[-len(memory) // 5 :])
    if last - settled > MOST_GROWTH_MB:
        faults.append(f"memory grew from {settled:.0f} to {last:.0f} MB")
    strays = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".onnx", ".bin")]
    faults += [f"left {path}" for path in strays if path != folder / "token"]
    kept = sum(path.stat().st_size for path in (folder / "service").rglob("*") if path.is_file()) / 2**20
    if kept > LIMITS["--store-mb"]:
        faults.append(f"kept {kept:.0f} MB")
    service.terminate()
    if service.wait(20):
        faults.append(f"ended with {service.returncode}")
    row = {"requests": sum(counts.values()), "clients": clients, "seconds": seconds, "faults": len(faults)}
    row |= {"settled MB": settled, "last fifth MB": last, "kept MB": kept} | dict(sorted(counts.items()))
    return [row], faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--no-store", action="store_true")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows, wrong = stress(told.requests, told.clients, Path(place))
    for line in wrong:
        print(line, file=sys.stderr)
    if told.no_store:
        print(json.dumps(rows))
    else:
        store("service_stress", rows)
    sys.exit(1 if wrong else 0)
