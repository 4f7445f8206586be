"""onnxruntime sessions whose conditions are known: no spinning, no silent fall back, errors in one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import EncodeError
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state  # pyright: ignore  (compiled, without stubs)

from ..errors import DeviceError, ModelError, OrtrimError
from . import host
from .binding import bound_call, memory_of
from .device import Device, require_local

__all__ = ["PLAIN", "Model", "Session", "TensorInfo", "model_name", "open_session", "read_model", "serialized"]

Model = str | os.PathLike[str] | bytes | onnx.ModelProto
"""What can be measured: a path, the bytes of a file, or a model in memory (under 2 GB, without external data)."""

# For looking at a model: nothing is spent on optimising the graph, and no node is fused away.
PLAIN = Device("cpu", threads=1, optimization="disable")
# onnxruntime derives its errors from Exception one by one, so they can only be caught by listing them.
_ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    error for error in vars(ort_state).values() if isinstance(error, type) and issubclass(error, Exception)
)
# What the Python layer of onnxruntime raises by itself: bad provider options, wrong inputs.
_PYTHON_ERRORS = (RuntimeError, ValueError, TypeError)
_BAD_MODEL = ("InvalidProtobuf", "InvalidGraph", "NoSuchFile", "NoModel", "NotImplemented")
_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_WEIGHTS_FILE = "session.optimized_model_external_initializers_file_name"
_FATAL = 4  # onnxruntime's severity; lesser messages reach the caller as exceptions, once and in one line
_LONGEST_REASON = 300
_SOURCE_LINE = re.compile(r"^\S*/\S+\.(?:cc|cpp|h|hpp|cu):\d+ .*?\) ")  # where in onnxruntime, and in which function


@dataclass(frozen=True)
class TensorInfo:
    """An input of a session."""

    name: str
    type: str
    """As onnxruntime writes it, e.g. `tensor(float)`."""
    shape: tuple[int | str | None, ...]
    """A name or None stands for a dynamic axis."""


class Session:
    """An open onnxruntime session of one model on one device. Made by `open_session`."""

    def __init__(self, handle: ort.InferenceSession, name: str, device: Device) -> None:
        self._handle = handle
        self.name = name
        self.device = device
        self.inputs = tuple(TensorInfo(i.name, i.type, tuple(i.shape)) for i in handle.get_inputs())
        self.outputs = tuple(output.name for output in handle.get_outputs())
        self.providers = tuple(handle.get_providers())
        """Execution providers of the session in order of preference; which node each one ran is `explain`'s matter."""
        self._is_dynamic = any(not isinstance(size, int) for info in self.inputs for size in info.shape)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[Any]:
        """All outputs for `feeds` (input name -> array): arrays, but for the rare model that gives sequences or maps.

        Raises:
            ModelError: inputs that do not fit the model.
            DeviceError: the device could not run it.
        """
        with self.running():
            return list(self._handle.run(None, dict(feeds)))

    def bind(self, feeds: Mapping[str, np.ndarray]) -> Callable[[], object]:
        """`run` as a bare call for timing loops, which belong into `running`.

        Where a provider has memory of its own, inputs and outputs are bound there once: what a call takes does not
        hold the way from and to the host.
        """
        if self.device.name == "cpu":
            return partial(self._handle.run, None, dict(feeds))
        self.run(feeds)  # says what is wrong with inputs better than a bound run does
        with self.running():
            return bound_call(self._handle, feeds, memory_of(self.device.name), self.device.index or 0)

    def end_profiling(self) -> Path:
        """Closes the profile of a session that was opened with `profile_prefix` and gives the file."""
        return Path(self._handle.end_profiling())

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Where calls are made: on the device's processors, and what onnxruntime raises becomes an ortrim error."""
        try:
            with host.pinned(next(iter(self.device.affinity), None)):
                yield
        except OrtrimError:
            raise
        except (*_ORT_ERRORS, *_PYTHON_ERRORS) as error:
            wrong_input = isinstance(error, ort_state.InvalidArgument | ValueError | TypeError)
            kind = ModelError if wrong_input else DeviceError
            hint = "; dynamic axes are 1 unless shapes are given" if wrong_input and self._is_dynamic else ""
            raise kind(f"model {self.name} fails on device {self.device}: {_reason(error)}{hint}") from error


def model_name(model: Model) -> str:
    """How messages call a model: its path, or the name of its graph."""
    if isinstance(model, onnx.ModelProto):
        return repr(model.graph.name) if model.graph.name else "in memory"
    return "in memory" if isinstance(model, bytes) else os.fspath(model)


def open_session(
    model: Model, device: Device, *, profile_prefix: Path | None = None, optimized_path: Path | None = None
) -> Session:
    """A new session of `model` on `device`.

    Args:
        model: path, bytes or model.
        device: where to run.
        profile_prefix: start of the name of a profile file; profiling slows the session down.
        optimized_path: where to write the graph that onnxruntime runs; its weights go beside it.

    Raises:
        ModelError: a file that is missing, or a model that onnxruntime refuses.
        DeviceError: the provider cannot be loaded or cannot take the model, or the device is remote.
    """
    require_local(device)
    source, name = _source(model), model_name(model)
    if device.provider not in host.available_providers():
        raise DeviceError(f"device {device}: the installed onnxruntime {ort.__version__} has no {device.provider}")
    _check_affinity(device)
    if device.name != "cpu":
        # A provider that fails to load says so through the default logger, in many lines.
        ort.set_default_logger_severity(_FATAL)
        _preload_gpu_libraries()
    try:
        handle = ort.InferenceSession(
            source,
            _session_options(device, profile_prefix, optimized_path),
            providers=_providers(device),
            enable_fallback=0,
        )
    except (*_ORT_ERRORS, *_PYTHON_ERRORS) as error:
        raise _open_error(error, name, device) from error
    if device.provider not in handle.get_providers():
        raise DeviceError(
            f"device {device}: {device.provider} could not be loaded; check that the hardware is there and that its"
            " driver and libraries are installed"
        )
    return Session(handle, name, device)


def serialized(model: Model) -> str | os.PathLike[str] | bytes:
    """A model in memory as bytes, for whoever opens it several times; others as they are.

    Raises:
        ModelError: a model in memory that is too large for it.
    """
    if not isinstance(model, onnx.ModelProto):
        return model
    try:
        return model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(f"model {model_name(model)} is over 2 GB: save it and give the path") from error


def _source(model: Model) -> str | bytes:
    """What onnxruntime takes."""
    model = serialized(model)
    if isinstance(model, bytes):
        if not model:
            raise ModelError("model in memory is empty")
        return model
    if not isinstance(model, str | os.PathLike):
        raise ModelError(f"a model is a path, bytes or an onnx.ModelProto, not {type(model).__name__}")
    path = Path(model)
    if not path.is_file():
        raise ModelError(f"model {path}: {'not a file' if path.exists() else 'no such file'}")
    if path.stat().st_size == 0:
        raise ModelError(f"model {path} is empty")
    return str(path)


def read_model(model: Model) -> onnx.ModelProto:
    """The model as a graph, with its weights.

    Raises:
        ModelError: a model that onnxruntime refuses.
    """
    if isinstance(model, onnx.ModelProto):
        return model
    open_session(model, PLAIN)  # says in one line what is wrong with a file
    return onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(os.fspath(model))


def _session_options(
    device: Device, profile_prefix: Path | None = None, optimized_path: Path | None = None
) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = device.threads or 0
    options.inter_op_num_threads = (device.threads or 0) if device.parallel else 1
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if device.parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = device.arena
    options.graph_optimization_level = _LEVELS[device.optimization]
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if device.spinning else "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1" if device.flush_denormals else "0")
    if len(device.affinity) > 1:  # of the threads that onnxruntime starts, which counts processors from 1
        others = ";".join(str(processor + 1) for processor in device.affinity[1:])
        options.add_session_config_entry("session.intra_op_thread_affinities", others)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
        options.add_session_config_entry(_WEIGHTS_FILE, optimized_path.name + ".weights")
    return options


def _check_affinity(device: Device) -> None:
    """Raises DeviceError where threads cannot be bound to the processors that the device names."""
    if not device.affinity:
        return
    there = host.processors()
    if there is None:
        raise DeviceError(f"device {device}: this system does not let a thread be bound to a processor")
    if missing := sorted(set(device.affinity) - there):
        raise DeviceError(
            f"device {device}: there is no processor {missing[0]} for this process; there are "
            f"{', '.join(map(str, sorted(there)))}"
        )


def _providers(device: Device) -> list[str | tuple[str, dict[str, str]]]:
    """The device's provider, then those that may take the nodes it cannot: CUDA for TensorRT, the CPU for all."""
    options = dict(device.options)
    if device.index is not None:
        options.setdefault("device_id", str(device.index))
    chain: list[str | tuple[str, dict[str, str]]] = [(device.provider, options)]
    if device.name == "tensorrt" and "CUDAExecutionProvider" in host.available_providers():
        chain.append(("CUDAExecutionProvider", {"device_id": str(device.index or 0)}))
    return chain if device.name == "cpu" else [*chain, "CPUExecutionProvider"]


@cache
def _preload_gpu_libraries() -> None:
    """Lets onnxruntime find CUDA and cuDNN where pip put them; what is missing shows when the provider loads."""
    preload = getattr(ort, "preload_dlls", None)  # since onnxruntime 1.21
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()


def _open_error(error: Exception, name: str, device: Device) -> OrtrimError:
    kind = type(error).__name__
    if kind in _BAD_MODEL or device.name == "cpu":
        return ModelError(f"model {name}: onnxruntime refuses it: {_reason(error)}")
    return DeviceError(f"device {device} cannot open model {name}: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The last part of onnxruntime's message that a person can use, in one line."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):  # "[ONNXRuntimeError] : CODE : KIND : what happened"
        text = text.split(" : ", 3)[-1]
    text = _SOURCE_LINE.sub("", text)
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."
