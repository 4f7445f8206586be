from __future__ import annotations

from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest

from ortrim.errors import DeviceError, ModelError
from ortrim.runtime import Device, host, measure, open_session
from ortrim.runtime import session as session_module


@pytest.mark.parametrize("form", ["path", "text", "bytes", "model"])
def test_runs_a_model_in_every_form(conv_net, device, tmp_path, form):
    model = conv_net()
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    given = {"path": path, "text": str(path), "bytes": path.read_bytes(), "model": model}[form]
    session = open_session(given, device)
    (output,) = session.run({"x": np.ones((1, 3, 16, 16), np.float32)})
    assert output.shape == (1, 16, 16, 16)
    assert session.providers == ("CPUExecutionProvider",)


def test_session_settings_follow_the_device(conv_net):
    def settings(spec):
        return session_module._session_options(Device.parse(spec), None)

    plain, other = settings("cpu:threads=1"), settings("cpu:threads=2,spinning=1,opt=basic,denormals=flush")
    assert (plain.intra_op_num_threads, plain.inter_op_num_threads) == (1, 1)
    assert plain.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert plain.get_session_config_entry("session.set_denormal_as_zero") == "0"
    assert plain.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert other.intra_op_num_threads == 2
    assert other.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert other.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert other.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


def test_bad_models_are_refused_in_one_line(conv_net, device, tmp_path):
    good = conv_net().SerializeToString()
    files = {"empty": b"", "random": bytes(range(256)) * 20, "truncated": good[: len(good) // 2], "text": b"hello"}
    for name, content in files.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            measure(path, device)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    for absent in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(ModelError, match=r"no such file|not a file"):
            open_session(absent, device)
    for other in (b"", 3, onnx.ModelProto()):
        with pytest.raises(ModelError):
            open_session(other, device)


def test_unknown_operator_is_named(conv_net, device):
    model = conv_net()
    model.graph.node[0].op_type = "Mystery"
    with pytest.raises(ModelError, match="Mystery"):
        open_session(model, device)


def test_wrong_inputs_are_named(conv_net, device):
    session = open_session(conv_net(batch="N"), device)
    for feeds in ({}, {"y": np.ones(1)}, {"x": np.ones((1, 3, 16, 16))}, {"x": np.ones((1, 4, 16, 16), np.float32)}):
        with pytest.raises(ModelError, match="'net' fails on device cpu:threads=1") as caught:
            session.run(feeds)
        assert "\n" not in str(caught.value)


def test_provider_that_is_listed_but_cannot_be_loaded_is_an_error(conv_net):
    listed = [name for name in ("cuda", "tensorrt") if Device(name).provider in host.available_providers()]
    if not listed:
        pytest.skip("this onnxruntime has no GPU provider")
    for name in listed:
        try:
            providers = open_session(conv_net(), Device(name)).providers
        except DeviceError as error:  # no GPU here
            providers = (Device(name).provider,) if name in str(error) else ()
        assert providers[0] == Device(name).provider


def test_silent_fall_back_is_an_error(conv_net):
    real = onnxruntime.InferenceSession

    def falls_back(source, options, providers, enable_fallback):
        assert providers == [("CUDAExecutionProvider", {"device_id": "1", "a": "b"}), "CPUExecutionProvider"]
        assert enable_fallback == 0
        return real(source, options, providers=["CPUExecutionProvider"])

    with (
        mock.patch.object(host, "available_providers", return_value=("CUDAExecutionProvider", "CPUExecutionProvider")),
        mock.patch.object(onnxruntime, "InferenceSession", falls_back),
        pytest.raises(DeviceError, match="device cuda:1,a=b: CUDAExecutionProvider could not be loaded"),
    ):
        open_session(conv_net(), Device.parse("cuda:1,a=b"))


def test_provider_that_went_missing_is_an_error(conv_net):
    with (
        mock.patch.object(host, "available_providers", return_value=("CPUExecutionProvider",)),
        pytest.raises(DeviceError, match="has no CUDAExecutionProvider"),
    ):
        open_session(conv_net(), Device("cuda"))
