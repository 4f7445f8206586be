from __future__ import annotations

from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest

from ortrim.errors import DeviceError, ModelError
from ortrim.runtime import Device, host, measure, open_session
from ortrim.runtime import session as session_module
from ortrim.runtime.binding import bound_call, memory_of


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
    assert plain.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert plain.enable_cpu_mem_arena
    assert not settings("cpu:arena=0").enable_cpu_mem_arena
    parallel = settings("cpu:threads=3,mode=parallel,affinity=4+0+2")
    assert parallel.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert parallel.inter_op_num_threads == 3
    assert parallel.get_session_config_entry("session.intra_op_thread_affinities") == "1;3"
    assert other.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


@pytest.mark.skipif(host.processors() is None, reason="this system does not bind threads")
def test_the_calling_thread_runs_on_the_first_processor_of_the_affinity(conv_net):
    there = sorted(host.processors())
    last = there[-1]
    session = open_session(conv_net(), Device.parse(f"cpu:threads=1,affinity={last}"))
    with session.running():
        assert host.processors() == {last}
    assert sorted(host.processors()) == there
    with pytest.raises(DeviceError, match=f"no processor 1000 for this process; there are {there[0]}"):
        open_session(conv_net(), Device.parse("cpu:threads=1,affinity=1000"))


@pytest.mark.parametrize("spec", ["cpu:threads=2,mode=parallel,arena=0", "cpu:threads=1,arena=0"])
def test_options_of_a_session_change_no_result(conv_net, device, spec):
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 16, 16), dtype=np.float32)}
    expected, found = (open_session(conv_net(), place).run(feeds) for place in (device, Device.parse(spec)))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)


def test_a_bound_call_computes_what_a_plain_one_does(conv_net):
    handle = onnxruntime.InferenceSession(conv_net().SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 16, 16), dtype=np.float32)}
    call = bound_call(handle, feeds, "cpu", 3)
    call()
    np.testing.assert_array_equal(call().copy_outputs_to_cpu()[0], handle.run(None, feeds)[0])


def test_memory_of_providers():
    assert [memory_of(name) for name in ("cuda", "tensorrt", "openvino", "coreml")] == ["cuda", "cuda", "cpu", "cpu"]


def test_other_providers_than_the_cpu_run_bound(conv_net, device):
    session = open_session(conv_net(), device)
    session.device = Device("xnnpack")
    call = session.bind({"x": np.ones((1, 3, 16, 16), np.float32)})
    assert call().copy_outputs_to_cpu()[0].shape == (1, 16, 16, 16)
    with pytest.raises(ModelError, match="fails on device xnnpack"):
        session.bind({"x": np.ones((1, 4, 16, 16), np.float32)})


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
