"""What strangers and accidents do to a service, over the wire."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid

import pytest

from ortrim.errors import DeviceError, ModelError
from ortrim.runtime import LatencyTable, LayerShape, measure, node_times

from .conftest import endless_model, huge_model, needs_proc, small_model

_JSON = {"Content_Type": "application/json"}
_SMALL = small_model().SerializeToString()
_DIGEST = hashlib.sha256(_SMALL).hexdigest()


def _submit(service, task, **changes):
    message = {"version": 1, "id": uuid.uuid4().hex, "task": task, **changes}
    status, body = service.request("POST", "/jobs?wait=20", json.dumps(message).encode(), **_JSON)
    return status, json.loads(body)


def _works(service) -> None:
    """It still measures, and keeps nothing but what it should."""
    assert node_times(small_model(), service.device, runs=1)[0].op == "MatMul"
    assert not list((service.folder / "parts").iterdir())
    for path in service.folder.rglob("*"):
        assert path.is_dir() or path.suffix in (".onnx", ".bin"), path


def test_health_and_device(service):
    status, body = service.request("GET", "/health")
    assert (status, json.loads(body)["status"]) == (200, "ok")
    status, body = service.request("GET", "/device")
    assert json.loads(body)["device"]["spec"] == "cpu:threads=1"


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("a" * 64, _SMALL, 422),
        (_DIGEST.upper(), _SMALL, 400),
        ("..%2f..%2f..%2fetc%2fpasswd", _SMALL, 404),
        (_DIGEST + "%2f", _SMALL, 404),
        ("%2e%2e", _SMALL, 400),
        ("../../../tmp/x", _SMALL, 404),
        ("x.onnx", _SMALL, 400),
        (_DIGEST + "%00", _SMALL, 400),
        (_DIGEST + "%0a", _SMALL, 400),
        (None, b"not a model", 422),
        (None, b"", 422),
        (None, _SMALL[:-9], 422),
        (None, bytes(5 * 2**20), 413),
    ],
)
def test_bad_uploads(service, name, content, status):
    name = name or hashlib.sha256(content).hexdigest()
    assert service.request("PUT", f"/models/{name}", content)[0] == status
    assert service.request("HEAD", f"/models/{hashlib.sha256(content).hexdigest()}")[0] == 404 or content == _SMALL
    _works(service)


@pytest.mark.parametrize(("kind", "status"), [("inputs", 422), ("secrets", 404), ("jobs", 404), ("parts", 404)])
def test_other_kinds_of_upload(service, kind, status):
    assert service.request("PUT", f"/{kind}/{_DIGEST}", _SMALL)[0] == status


def test_a_length_has_to_be_announced(service):
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        head = f"PUT /models/{_DIGEST} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"5\r\nhello\r\n0\r\n\r\n")
        assert b" 411 " in connection.recv(100)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x16\x03\x01 hello in TLS \x00\xff",
        b"GET /health HT",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000,
        b"PUT /models/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nhalf" % _DIGEST.encode(),
        b"PUT /models/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nhalf" % _DIGEST.encode(),
        b"PUT /models/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999999\r\n\r\nhalf" % _DIGEST.encode(),
        b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        b"GET http://elsewhere/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_connections_that_break_off(service, sent):
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(sent)
    _works(service)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b'{"version": 2}', 400),
        (b'{"version": 1, "id": "../../x"}', 400),
        (b'{"version": 1, "id": "%s"}' % (b"a" * 32), 400),
        (b" " * (2**20 + 1), 413),
    ],
)
def test_bad_messages(service, body, status):
    assert service.request("POST", "/jobs", body, **_JSON)[0] == status


@pytest.mark.parametrize("path", ["/jobs?wait=nan", "/jobs?wait=soon", "/jobs?wait=inf"])
def test_bad_waits(service, path):
    service.request("PUT", f"/models/{_DIGEST}", _SMALL)
    message = {"version": 1, "id": uuid.uuid4().hex, "task": {"kind": "nodes", "models": [_DIGEST]}}
    assert service.request("POST", path, json.dumps(message).encode(), **_JSON)[0] == 400


def test_jobs_name_what_they_need_and_what_is_too_much(service):
    status, answer = _submit(service, {"kind": "measure", "models": ["a" * 64], "inputs": "b" * 64})
    assert (status, answer["missing"]) == (409, [["models", "a" * 64], ["inputs", "b" * 64]])
    status, answer = _submit(service, {"kind": "measure", "models": ["a" * 64], "seconds": 3600})
    assert (status, "--job-seconds" in answer["error"]) == (422, True)
    assert service.request("GET", f"/jobs/{'0' * 32}")[0] == 404
    assert service.request("POST", "/jobs", b"{}", Content_Type="text/plain")[0] == 415


def test_a_job_that_is_submitted_twice_runs_once(service):
    service.request("PUT", f"/models/{_DIGEST}", _SMALL)
    task, job_id = {"kind": "nodes", "models": [_DIGEST]}, uuid.uuid4().hex
    first, second = (_submit(service, task, id=job_id) for _ in range(2))
    assert first == second  # times included
    status, body = service.request("GET", f"/jobs/{job_id}")
    assert (status, json.loads(body)) == first
    assert service.request("DELETE", f"/jobs/{job_id}")[0] == 204
    assert service.request("GET", f"/jobs/{job_id}")[0] == 404


def test_pages_of_the_web_are_refused(service):
    assert service.request("GET", "/device", Origin="http://evil.example")[0] == 403
    assert service.request("GET", "/device", Host="evil.example:80")[0] == 403
    assert service.request("GET", "/device", Host=f"localhost:{service.port}")[0] == 200


def test_models_that_need_too_much_memory(service):
    for _ in range(2):
        with pytest.raises((DeviceError, ModelError)) as caught:
            measure(huge_model(), service.device, seconds=0.5)
        assert "\n" not in str(caught.value)
        assert service.address in str(caught.value)
    _works(service)


@pytest.mark.parametrize("sizes", [(2**18, 2**18), (1, 2**31 - 1)])
def test_sizes_that_need_too_much_memory(service, sizes):
    with pytest.raises((DeviceError, ModelError)):
        LatencyTable(service.device).milliseconds(LayerShape("Gemm", *sizes, (1,)))
    _works(service)


def test_a_model_that_never_ends(service):
    with pytest.raises(DeviceError, match=r"took more than 6 s .*--job-seconds"):
        measure(endless_model(), service.device, seconds=0.5)
    _works(service)


def test_others_see_their_place(service):
    content = endless_model().SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    assert service.request("PUT", f"/models/{digest}", content)[0] == 201
    service.request("PUT", f"/models/{_DIGEST}", _SMALL)
    ids = [uuid.uuid4().hex for _ in range(3)]
    for job_id, model in zip(ids, (digest, _DIGEST, _DIGEST), strict=True):
        message = {"version": 1, "id": job_id, "task": {"kind": "nodes", "models": [model]}}
        service.request("POST", "/jobs", json.dumps(message).encode(), **_JSON)
    time.sleep(0.2)
    states = [json.loads(service.request("GET", f"/jobs/{job_id}")[1]) for job_id in ids]
    assert states[0] == {"state": "running", "before": 0}
    assert [state["before"] for state in states[1:]] == [1, 2]
    assert service.request("DELETE", f"/jobs/{ids[0]}")[0] == 204
    _, body = service.request("GET", f"/jobs/{ids[2]}?wait=20")
    assert json.loads(body)["state"] == "done"


def test_the_store_is_bounded(service):
    """Twelve megabytes, and models of two."""
    digests = []
    for seed in range(8):
        model = small_model(seed)
        model.doc_string = "x" * 2**21
        content = model.SerializeToString()
        digests.append(hashlib.sha256(content).hexdigest())
        assert service.request("PUT", f"/models/{digests[-1]}", content)[0] == 201
    kept = [service.request("HEAD", f"/models/{digest}")[0] == 200 for digest in digests]
    assert kept[-4:] == [True] * 4
    assert not any(kept[:2])
    assert sum(path.stat().st_size for path in service.folder.rglob("*") if path.is_file()) <= 12 * 2**20
    _works(service)


@needs_proc()
def test_a_worker_that_is_killed_is_replaced(service):
    first = service.worker()
    os.kill(first, signal.SIGKILL)
    _works(service)
    assert service.worker() != first


def test_tokens(own_service, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    service = own_service("--token-file", str(token))
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}, {"Authorization": "Bearer "}):
        for method, path in (("GET", "/device"), ("GET", "/health"), ("PUT", f"/models/{_DIGEST}"), ("POST", "/jobs")):
            assert service.request(method, path, b"", **header)[0] == 401
    assert service.request("GET", "/device", Authorization="Bearer secret")[0] == 200
    assert service.request("GET", "/device", Authorization="Bearer secret", Host="board.local:1")[0] == 200
    assert not list((service.folder / "models").iterdir())


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
@needs_proc()
def test_signals_end_it_cleanly(own_service, kind):
    service = own_service()
    worker = service.worker()
    assert service.stop(kind) == 0
    assert not os.path.exists(f"/proc/{worker}")


@needs_proc()
def test_workers_do_not_outlive_it(own_service):
    service = own_service()
    worker = service.worker()
    service.stop(signal.SIGKILL)
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{worker}"):
        assert time.monotonic() < end
        time.sleep(0.05)


def _serve(*options, **environment) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ortrim.runtime.service", *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--host", "0.0.0.0"], 2, "needs a token"),
        (["--host", "::"], 2, "needs a token"),
        (["--token-file", "/no/such"], 2, "token file"),
        (["--device", "tpu"], 2, "there is no device 'tpu'"),
        (["--device", "http://127.0.0.1:1"], 2, "on its own machine"),
        (["--cert", "x.pem"], 2, "belong together"),
        (["--cert", "/no/x.pem", "--key", "/no/x.key"], 2, "No such file"),
        (["--store-mb", "1"], 2, "--store-mb"),
        (["--host", "192.0.2.1", "--token-file", "TOKEN"], 1, "cannot be opened"),
    ],
)
def test_refusals_in_one_line(tmp_path, options, status, said):
    (tmp_path / "TOKEN").write_text("secret")
    options = [str(tmp_path / "TOKEN") if option == "TOKEN" else option for option in options]
    answer = _serve(*options, "--port", "0", "--folder", str(tmp_path / "folder"))
    assert answer.returncode == status
    assert said in answer.stderr
    assert answer.stderr.startswith("Error: ")
    assert answer.stderr.count("\n") == 1


def test_the_service_works_without_torch(tmp_path):
    """And without all else that only the compressor needs."""
    code = (
        "import sys\n"
        "absent = ('torch', 'torchvision', 'onnxscript', 'onnx_graphsurgeon', 'gymnasium', 'jinja2', 'PIL')\n"
        "for name in absent: sys.modules[name] = None\n"
        "import ortrim.runtime.service.server, ortrim.runtime.service.worker, ortrim.runtime.service.remote\n"
        "import ortrim.compressor.cli.serve\n"
        "print([name for name in sys.modules if name.split('.')[0] in absent and sys.modules[name]])\n"
        "sys.argv = ['ortrim', 'serve', '--host', '0.0.0.0']\n"
        "from ortrim.compressor.cli import main\n"
        "main()\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert answer.stdout.strip() == "[]"
    assert answer.returncode == 2
    assert "needs a token" in answer.stderr
