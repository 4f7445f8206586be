"""A remote device where a local one is accepted, and what happens when it goes away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import onnx
import pytest

from ortrim.errors import DeviceError, DeviceSpecError, ModelError
from ortrim.runtime import (
    Comparator,
    Device,
    LatencyTable,
    LayerShape,
    compare_many,
    explain,
    measure,
    node_times,
    open_session,
)
from ortrim.runtime.service.client import client_of

from .conftest import Running, endless_model, needs_proc, small_model

_CERTIFICATE = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=board -addext subjectAltName=IP:127.0.0.1"
_LAYER = LayerShape("Conv", 16, 16, (12, 12), kernel=(3, 3), pads=(1, 1, 1, 1), activation="Relu")


def _about(found: float, known: float) -> bool:
    """Loosely: the machine may be busy, and the two were not measured at the same time."""
    return 0.6 * known < found < known / 0.6


def test_latency_is_that_of_this_machine(service, device, conv_net, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(conv_net(32, 32), path)
    here, there = (measure(path, place, seconds=0.8) for place in (device, service.device))
    assert _about(there.median_ms, here.median_ms)
    assert there.low_ms <= there.median_ms <= there.high_ms
    assert there.clock == here.clock
    assert there.conditions["device"]["address"] == service.address
    assert there.conditions["device"]["cpu"] == here.conditions["device"]["cpu"]
    assert there.conditions["providers"] == here.conditions["providers"]


def test_ratios_and_inputs(service, conv_net):
    small, large = conv_net(16, 32), conv_net(64, 32)
    inputs = {"x": np.ones((1, 3, 32, 32), np.float32)}
    (ratio,) = compare_many(large, [small], service.device, inputs=inputs, seconds=0.8)
    assert ratio.low <= ratio.value <= ratio.high < 0.8
    with Comparator(large, service.device, inputs=inputs, seconds=0.4) as comparator:
        first, second = comparator.ratios([small, large])
        assert first.value < 0.8 < second.value
        assert comparator.ratio(small).value < 0.8


def test_shapes_of_dynamic_axes(service, conv_net):
    model = conv_net(batch="n")
    one, eight = (measure(model, service.device, shapes={"x": (n, 3, 16, 16)}, seconds=0.4) for n in (1, 8))
    assert eight.median_ms > 2 * one.median_ms


def test_nodes_and_explanation(service, device, conv_net):
    model = conv_net()
    assert [n.op for n in node_times(model, service.device)] == [n.op for n in node_times(model, device)]
    here, there = explain(model, device), explain(model, service.device)
    assert [layer.layer for layer in there.layers] == [layer.layer for layer in here.layers]
    assert there.to_dict()["convolutions"] == here.to_dict()["convolutions"]
    assert there.device == f"cpu:threads=1 at {service.address}"


def test_the_table_is_shared_by_devices_of_one_kind(service, device, tmp_path):
    there = LatencyTable(service.device, tmp_path / "layers.sqlite")
    found = there.milliseconds(_LAYER)
    assert there.misses == 1
    assert _about(found, LatencyTable(device).milliseconds(_LAYER))
    here = LatencyTable(device, tmp_path / "layers.sqlite")
    assert here.milliseconds(_LAYER) == found
    assert here.misses == 0


def test_models_with_their_weights_beside_them(service, conv_net, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(conv_net(), path, save_as_external_data=True, location="weights", size_threshold=0)
    assert len(node_times(path, service.device)) >= 2
    (tmp_path / "weights").unlink()
    with pytest.raises(ModelError, match=r"net\.onnx: its weights cannot be read"):
        node_times(path, service.device)


def test_messages_name_the_model_and_the_device(service, conv_net, tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(ModelError, match=r"net\.onnx: no such file"):
        measure(path, service.device)
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"net\.onnx: not an ONNX model"):
        measure(path, service.device)
    onnx.save(conv_net(), path)
    with pytest.raises(ModelError, match=rf"{service.address}: model {path} has no input 'z'"):
        measure(path, service.device, shapes={"z": (1,)})
    with pytest.raises(ModelError, match="has no input 'z'"):
        Comparator(path, service.device, shapes={"z": (1,)})
    with pytest.raises(DeviceError, match="which only measures"):
        open_session(path, service.device)


def test_files_are_sent_once(service, conv_net, monkeypatch):
    client = client_of(service.address)
    sent = []
    send = client._send
    monkeypatch.setattr(client, "_send", lambda upload: (sent.append(upload.key), send(upload)))
    model = conv_net(9)
    for _ in range(3):
        node_times(model, service.device)
    assert len(sent) == 1


def test_a_file_that_was_evicted_is_sent_again(service, conv_net):
    model = conv_net(10)
    node_times(model, service.device)
    for path in (service.folder / "models").iterdir():
        path.unlink()
    node_times(model, service.device)


@needs_proc()
def test_the_worker_may_be_killed(service, conv_net):
    baseline, candidate = conv_net(32, 32), conv_net(16, 32)
    with Comparator(baseline, service.device, seconds=1.0) as comparator:
        before = comparator.ratio(candidate)
        killer = threading.Timer(0.3, lambda: os.kill(service.worker(), signal.SIGKILL))
        killer.start()
        after = comparator.ratio(candidate)
        killer.join()
    assert _about(after.value, before.value)


def test_the_service_may_be_killed(own_service, conv_net):
    """In the middle of a measurement, and while nothing is asked; its store is lost, too."""
    service = own_service()
    baseline, candidate = conv_net(32, 32), conv_net(16, 32)

    def restart() -> None:
        service.stop(signal.SIGKILL)
        shutil.rmtree(service.folder)
        time.sleep(0.5)
        service.start()

    with Comparator(baseline, service.device, seconds=1.0) as comparator:
        before = comparator.ratio(candidate)
        restarter = threading.Timer(0.3, restart)
        restarter.start()
        during = comparator.ratio(candidate)
        restarter.join()
        restart()
        after = comparator.ratio(candidate)
    assert _about(during.value, before.value)
    assert _about(after.value, before.value)


def test_a_device_that_is_lost_for_good(own_service, conv_net, monkeypatch):
    monkeypatch.setenv("ORTRIM_PATIENCE", "0.5")
    service = own_service()
    with Comparator(conv_net(), service.device, seconds=0.3) as comparator:
        service.stop(signal.SIGKILL)
        with pytest.raises(DeviceError, match=rf"{service.address} was lost: .*--resume") as caught:
            comparator.ratio(conv_net())
        assert "\n" not in str(caught.value)
        service.start()
        comparator.ratio(conv_net())


def test_a_device_that_is_not_there(monkeypatch, conv_net, service):
    monkeypatch.setenv("ORTRIM_PATIENCE", "0.2")
    absent = Device.parse("http://127.0.0.1:9")
    for ask in (absent.describe, lambda: measure(conv_net(), absent), lambda: LatencyTable(absent)):
        with pytest.raises(DeviceError, match=r"http://127\.0\.0\.1:9 cannot be reached .*`ortrim serve`"):
            ask()


def test_ctrl_c_takes_the_job_back(service, monkeypatch):
    client = client_of(service.address)
    tell = client._tell_place

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ortrim.runtime.service.client._WAIT_S", 0.5)
    monkeypatch.setattr(client, "_tell_place", interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        node_times(endless_model(), service.device)
    monkeypatch.setattr(client, "_tell_place", tell)
    node_times(small_model(), service.device)
    assert time.monotonic() - started < 5  # the endless one would have taken six


class TestSeveral:
    @pytest.fixture
    def two(self, own_service, service) -> tuple[Running, Device]:
        other = own_service()
        return other, Device.parse(f"{other.address},{service.address}")

    def test_they_take_turns(self, two, service, conv_net):
        other, devices = two
        with Comparator(conv_net(), devices, seconds=0.3) as comparator:
            seen = [comparator.ratio(conv_net(8)).candidate.conditions["device"]["address"] for _ in range(4)]
        assert sorted(seen[:2]) == sorted([other.address, service.address])
        assert seen[:2] == seen[2:]
        shapes = [LayerShape("Gemm", 16, width, (1,)) for width in range(8, 13)]
        seen = LatencyTable(devices).measure_all(shapes)
        assert list(seen) == shapes

    def test_one_may_be_lost(self, two, service, conv_net, monkeypatch):
        monkeypatch.setenv("ORTRIM_PATIENCE", "0.3")
        other, devices = two
        with Comparator(conv_net(), devices, seconds=0.3) as comparator:
            table = LatencyTable(devices)
            other.stop(signal.SIGKILL)
            for _ in range(3):
                ratio = comparator.ratio(conv_net(8))
                assert ratio.candidate.conditions["device"]["address"] == service.address
            table.measure_all(LayerShape("Gemm", 16, width, (1,)) for width in range(8, 13))
        assert devices.describe()["address"] == service.address

    def test_they_have_to_be_of_one_kind(self, own_service, service):
        other = own_service("--device", "cpu:threads=2")
        with pytest.raises(DeviceError, match="different kinds"):
            Device.parse(f"{other.address},{service.address}").describe()


class TestNames:
    def test_a_named_device(self, own_service, tmp_path, monkeypatch):
        service = own_service(token="secret")
        with pytest.raises(DeviceSpecError, match="token is missing or wrong; set ORTRIM_TOKEN"):
            service.device.describe()
        (tmp_path / "token").write_text("secret\n")
        entry = f'[pi]\nurl = "{service.address}/"\ntoken-file = "{tmp_path / "token"}"\npatience = 3\n'
        (tmp_path / "devices.toml").write_text(entry)
        named = Device.parse("pi")
        assert named == service.device
        assert named.describe()["address"] == service.address
        (tmp_path / "devices.toml").unlink()
        monkeypatch.setenv("ORTRIM_TOKEN", "secret")
        assert service.device.describe()["address"] == service.address

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[pi]\n", "has url"),
            ("pi = 3\n", "has url"),
            ("[pi]\nurl = 3\n", "http://HOST:PORT"),
            ("[pi]\nurl = []\n", "http://HOST:PORT"),
            ('[pi]\nurl = "pi:80"\n', "http://HOST:PORT"),
            ('[pi]\nurl = "http://pi:80"\npassword = "x"\n', "has url"),
            ("[pi\n", "device configuration"),
        ],
    )
    def test_configurations_that_cannot_be_used(self, tmp_path, text, said):
        (tmp_path / "devices.toml").write_text(text)
        with pytest.raises(DeviceSpecError, match=said):
            Device.parse("pi")

    def test_names_of_onnxruntime_come_first(self, tmp_path):
        (tmp_path / "devices.toml").write_text('[cpu]\nurl = "http://pi:80"\n')
        assert not Device.parse("cpu").is_remote
        with pytest.raises(DeviceSpecError, match="there is no device 'pi'"):
            Device.parse("pi")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate is made with openssl")
def test_tls(own_service, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [*_CERTIFICATE.split(), "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    service = own_service("--cert", str(cert), "--key", str(key))
    device = Device.parse(service.address.replace("http", "https"))
    with pytest.raises(DeviceSpecError, match="certificate is not trusted"):
        device.describe()
    (tmp_path / "devices.toml").write_text(f'[board]\nurl = "{device}"\nca = "{cert}"\n')
    assert len(node_times(small_model(), Device.parse("board"))) == 1
