"""Tasks for one service: files sent once, the task submitted, its result waited for."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from ... import errors
from ...errors import DeviceError, ModelError, OrtrimError
from ..session import Model, model_name, serialized
from .arrays import encode_arrays
from .config import Access, access_to
from .protocol import VERSION, Task
from .transport import Reply, Transport

__all__ = ["Client", "Upload", "client_of", "upload_of_inputs", "upload_of_model"]

log = logging.getLogger(__name__)

_WAIT_S = 20.0
_TRIES = 10
"""Times that a service may have lost a file or forgotten the job, because it was restarted."""


@dataclass(frozen=True)
class Upload:
    """A file that a task needs."""

    kind: str
    """`models` or `inputs`."""
    name: str
    """How messages call it here."""
    content: bytes = field(repr=False)
    digest: str
    """SHA-256."""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.digest


def upload_of_model(model: Model) -> Upload:
    """A model with all its weights.

    Raises:
        ModelError: no such file, or one that cannot be put into one piece.
    """
    content = serialized(model)
    name = model_name(model)
    if not isinstance(content, bytes):
        content = _read(Path(content))
    if not content:
        raise ModelError(f"model {name} is empty")
    return Upload("models", name, content, hashlib.sha256(content).hexdigest())


def upload_of_inputs(inputs: Mapping[str, np.ndarray] | None) -> Upload | None:
    """Inputs, where there are any.

    Raises:
        ModelError: inputs that are not numbers.
    """
    if inputs is None:
        return None
    content = encode_arrays(inputs)
    return Upload("inputs", "inputs", content, hashlib.sha256(content).hexdigest())


def _read(path: Path) -> bytes:
    """The bytes of a file, with the weights that lie beside it put in."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {path}: {(error.strerror or 'cannot be read').lower()}") from error
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise ModelError(f"model {path}: not an ONNX model") from error
    if not any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        return content
    try:
        whole = serialized(onnx.load(os.fspath(path)))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"model {path}: its weights cannot be read ({error})") from error
    assert isinstance(whole, bytes)
    return whole


@cache
def _client(access: Access) -> Client:
    return Client(access)


def client_of(address: str) -> Client:
    """The client of the service at that address; one for all who ask, so that nothing is sent twice.

    Raises:
        DeviceSpecError: a configuration or a token that cannot be read.
    """
    return _client(access_to(address))


class Client:
    """Asks one service for measurements, one after the other."""

    def __init__(self, access: Access) -> None:
        self.address = access.address
        self._transport = Transport(access)
        self._sent: set[tuple[str, str]] = set()
        self._turn = threading.Lock()

    def describe(self) -> dict[str, Any]:
        """The conditions that the service measures under, with its address.

        Raises:
            DeviceError: it cannot be reached, or speaks another version.
        """
        with self._turn:
            reply = self._transport.request("GET", "/device")
        fields = reply.fields if reply.status == 200 else {}
        if fields.get("version") != VERSION:
            raise DeviceError(
                f"device {self.address} speaks another version of the protocol: install the same ortrim on both sides"
            )
        return {**fields["device"], "address": self.address}

    def run(self, task: Task, uploads: Sequence[Upload] = ()) -> Any:  # noqa: ANN401 (plain values that JSON can hold)
        """The result of a task.

        Raises:
            DeviceError: the device was lost or could not do it.
            DeviceSpecError: it refuses the token.
            ModelError: it refuses the model.
        """
        job_id = uuid.uuid4().hex
        with self._turn:
            try:
                return self._run(job_id, task, {upload.key: upload for upload in uploads})
            except KeyboardInterrupt:
                self._transport.attempt("DELETE", f"/jobs/{job_id}")
                raise

    def _run(self, job_id: str, task: Task, uploads: Mapping[tuple[str, str], Upload]) -> Any:  # noqa: ANN401
        for key, upload in uploads.items():
            if key not in self._sent:
                self._ensure(upload)
        message = json.dumps({"version": VERSION, "id": job_id, "task": task.to_dict()}).encode()
        for _ in range(_TRIES):
            reply = self._transport.request("POST", f"/jobs?wait={_WAIT_S:g}", message, wait=_WAIT_S)
            before = 0
            while reply.status == 200 and reply.fields["state"] != "done":
                before = self._tell_place(before, reply.fields["before"])
                reply = self._transport.request("GET", f"/jobs/{job_id}?wait={_WAIT_S:g}", wait=_WAIT_S)
            if reply.status == 200:
                return self._result(reply, uploads)
            if reply.status == 409:
                for key in reply.fields["missing"]:
                    self._send(uploads[tuple(key)])
            elif reply.status != 404:  # forgotten: it was restarted
                raise DeviceError(f"device {self.address} refuses the measurement: {_said(reply)}")
        raise DeviceError(f"device {self.address} forgot a measurement {_TRIES} times: it keeps being restarted")

    def _ensure(self, upload: Upload) -> None:
        path = f"/{upload.kind}/{upload.digest}"
        if self._transport.request("HEAD", path).status == 200:
            self._sent.add(upload.key)
        else:
            self._send(upload)

    def _send(self, upload: Upload) -> None:
        path = f"/{upload.kind}/{upload.digest}"
        kind = "application/octet-stream"
        # As long as a slow line may need: a megabit a second.
        wait = len(upload.content) / 125_000
        reply = self._transport.request("PUT", path, upload.content, kind=kind, wait=wait)
        if reply.status != 201:
            what = upload.name if upload.kind == "inputs" else f"model {upload.name}"
            raise ModelError(f"device {self.address} refuses {what}: {_said(reply)}")
        self._sent.add(upload.key)

    def _tell_place(self, told: int, before: int) -> int:
        """Says how many measurements come first: once so that everybody sees it, then for those who want to know."""
        if before and before != told:
            level = logging.INFO if told else logging.WARNING
            log.log(level, "device %s is busy: %d measurements come first", self.address, before)
        return before

    def _result(self, reply: Reply, uploads: Mapping[tuple[str, str], Upload]) -> Any:  # noqa: ANN401
        answer = reply.fields["answer"]
        if "error" not in answer:
            return answer["result"]
        message = answer["error"]["message"]
        for upload in uploads.values():
            message = message.replace(f"{upload.digest}.onnx", upload.name)
        kind = answer["error"]["kind"]
        known = getattr(errors, kind, DeviceError) if kind in errors.__all__ else DeviceError
        assert issubclass(known, OrtrimError)
        raise known(f"device {self.address}: {message}")


def _said(reply: Reply) -> str:
    return str(reply.fields.get("error", reply.status)) if reply.body else f"status {reply.status}"
