from __future__ import annotations

import json
from unittest import mock

import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortrim.errors import DeviceError, DeviceSpecError
from ortrim.runtime import Device, host, open_session


@pytest.fixture
def every_provider():
    with mock.patch.object(host, "available_providers", host.known_providers):
        yield


@pytest.mark.parametrize(
    ("spec", "device", "canonical"),
    [
        ("cpu", Device("cpu"), "cpu"),
        (" CPU ", Device("cpu"), "cpu"),
        ("cpu:threads=1", Device("cpu", threads=1), "cpu:threads=1"),
        ("cpu:spinning=0,opt=all,denormals=keep", Device("cpu"), "cpu"),
        (
            "cpu:opt=basic,spinning=1, threads=02",
            Device("cpu", None, 2, True, "basic"),
            "cpu:threads=2,spinning=1,opt=basic",
        ),
        ("cpu:denormals=flush", Device("cpu", flush_denormals=True), "cpu:denormals=flush"),
        (
            "cpu:arena=0,mode=parallel,affinity=3+1,threads=2",
            Device("cpu", threads=2, affinity=(3, 1), parallel=True, arena=False),
            "cpu:threads=2,affinity=3+1,mode=parallel,arena=0",
        ),
        ("cpu:arena=1,mode=sequential", Device("cpu"), "cpu"),
        ("cuda:0", Device("cuda", index=0), "cuda:0"),
        ("tensorrt", Device("tensorrt"), "tensorrt"),
        ("directml:1", Device("dml", index=1), "dml:1"),
        (
            "openvino:device_type=CPU,cache_dir=/tmp/a=b",
            Device("openvino", options=(("cache_dir", "/tmp/a=b"), ("device_type", "CPU"))),
            "openvino:cache_dir=/tmp/a=b,device_type=CPU",
        ),
        ("http://Board.local:8000/", Device("remote", address="http://board.local:8000"), "http://board.local:8000"),
        ("https://[::1]:443", Device("remote", address="https://[::1]:443"), "https://[::1]:443"),
    ],
)
def test_parse(every_provider, spec, device, canonical):
    assert Device.parse(spec) == device
    assert str(Device.parse(spec)) == canonical
    assert hash(Device.parse(spec)) == hash(device)


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("", "give a name"),
        (None, "give a name"),
        ("gpu", "there is no device 'gpu'"),
        ("cpu:", "option ''"),
        ("cpu:threads=1,", "option ''"),
        ("cpu:fast", "option 'fast'"),
        ("cpu:=1", "option '=1'"),
        ("cpu:threads=", "option 'threads='"),
        ("cpu:threads=0", "threads=0"),
        ("cpu:threads=-1", "threads=-1"),
        ("cpu:threads=many", "threads=many"),
        ("cpu:threads=99999999999", "threads=9"),
        ("cpu:spinning=yes", "spinning=yes should be one of 0, 1"),
        ("cpu:opt=fast", "opt=fast should be one of all"),
        ("cpu:denormals=no", "denormals=no"),
        ("cpu:affinity=0", "give threads=1 too"),
        ("cpu:threads=1,affinity=0+1", "give threads=2 too"),
        ("cpu:threads=2,affinity=1+1", "different processors"),
        ("cpu:threads=2,affinity=0-1", "different processors"),
        ("cpu:mode=both", "mode=both should be one of sequential, parallel"),
        ("cpu:arena=no", "arena=no"),
        ("cpu:threads=1,threads=1", "threads is given twice"),
        ("cuda:0,1", "the device index is given twice"),
        ("cuda:-1", "option '-1'"),
        ("cpu:4", "cpu:threads=4"),
        ("cpu:device_type=CPU", "cpu has no option 'device_type'"),
        ("http://host", "http://HOST:PORT"),
        ("http://host:0", "http://HOST:PORT"),
        ("http://host:99999", "http://HOST:PORT"),
        ("http://host:80/path", "http://HOST:PORT"),
        ("ftp://host:80", "http://HOST:PORT"),
    ],
)
def test_bad_specs(every_provider, spec, fault):
    with pytest.raises(DeviceSpecError) as caught:
        Device.parse(spec)
    assert fault in str(caught.value)
    assert repr(spec) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_is_not_repeated():
    with pytest.raises(DeviceSpecError) as caught:
        Device.parse("http://user:secret@host:80")
    assert "secret" not in str(caught.value)


def test_missing_provider_names_what_is_available():
    with (
        mock.patch.object(host, "available_providers", return_value=("CPUExecutionProvider",)),
        pytest.raises(DeviceSpecError, match=r"has no CUDAExecutionProvider; available: cpu, http"),
    ):
        Device.parse("cuda:0")


_keys = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(
    lambda key: key not in ("threads", "affinity", "spinning", "mode", "opt", "arena", "denormals")
)
_values = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1, max_size=20)


@given(
    name=st.sampled_from(sorted(p.removesuffix("ExecutionProvider").lower() for p in host.known_providers())),
    index=st.none() | st.integers(0, 99),
    threads=st.none() | st.integers(1, 1024),
    spinning=st.booleans(),
    optimization=st.sampled_from(["all", "extended", "basic", "disable"]),
    flush=st.booleans(),
    options=st.dictionaries(_keys, _values, max_size=3),
    bound=st.booleans(),
    parallel=st.booleans(),
    arena=st.booleans(),
)
def test_canonical_spec_parses_back(
    name, index, threads, spinning, optimization, flush, options, bound, parallel, arena
):
    if name == "cpu":
        index, options = None, {}
    affinity = tuple(range(7, 7 + threads)) if bound and threads else ()
    device = Device(
        name,
        index,
        threads,
        spinning,
        optimization,
        flush,
        tuple(sorted(options.items())),
        affinity=affinity,
        parallel=parallel,
        arena=arena,
    )
    with mock.patch.object(host, "available_providers", host.known_providers):
        assert Device.parse(str(device)) == device


@given(st.text(max_size=40) | st.from_regex(r"(cpu|cuda|http:/)[:/a-z0-9=,@\[\]]*", fullmatch=True))
def test_any_text_is_a_device_or_a_spec_error(text):
    try:
        device = Device.parse(text)
    except DeviceSpecError:
        return
    assert Device.parse(str(device)) == device


def test_describe_is_json(device):
    facts = json.loads(json.dumps(device.describe()))
    assert facts["spec"] == "cpu:threads=1"
    assert facts["provider"] == "CPUExecutionProvider"
    assert facts["onnxruntime"] == onnxruntime.__version__
    assert facts["cpu"]
    assert facts["threads"] == 1
    assert facts["spinning"] is False
    assert (facts["mode"], facts["arena"], facts["affinity"]) == ("sequential", True, None)
    settled = Device.parse("cpu:threads=2,affinity=1+0,mode=parallel,arena=0").describe()
    assert (settled["mode"], settled["arena"], settled["affinity"]) == ("parallel", False, [1, 0])


def test_several_remote_devices():
    several = Device.parse("http://a:1, http://b:2")
    assert several.addresses == ("http://a:1", "http://b:2")
    assert Device.parse(str(several)) == several
    assert several.is_remote
    with pytest.raises(DeviceSpecError, match="twice"):
        Device.parse("http://a:1,http://A:1/")
    with pytest.raises(DeviceSpecError, match="http://HOST:PORT"):
        Device.parse("http://a:1,cpu")


def test_a_remote_device_runs_nothing_for_others(conv_net):
    remote = Device.parse("http://localhost:8000")
    assert remote.is_remote
    with pytest.raises(DeviceError, match=r"http://localhost:8000 is a measuring service"):
        open_session(conv_net(), remote)
