"""`compress` to several targets, on several devices, or as fast as a score allows."""

import json

import onnx
import pytest

FAST = ("--calibration", "48", "--agent", "knapsack", "--no-history", "--correction", "independent", "--json")


@pytest.mark.slow
def test_a_front_on_two_devices(ortrim, small_net, small_images, tmp_path):
    output = tmp_path / "slim.onnx"
    result = ortrim(
        *("compress", small_net, "--data", small_images, "--latency", "0.7x", "--front", "2", "--episodes", "10"),
        *("--device", "cpu:threads=1", "--device", "cpu:threads=1,arena=0", *FAST, "-o", output),
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [device["spec"] for device in found["devices"]] == ["cpu:threads=1", "cpu:threads=1,arena=0"]
    assert all(device["ratio"] <= 0.7 for device in found["devices"])
    assert found["latency"]["ratio"] == max(device["ratio"] for device in found["devices"])
    wide, narrow = found["front"]
    assert wide["target"] == pytest.approx(0.7**0.5)
    assert wide["path"].endswith("slim_0.84x.onnx")
    assert narrow["path"] == str(output)
    assert wide["ratio"] <= wide["target"]
    for net in (wide, narrow):
        onnx.checker.check_model(onnx.load(net["path"]), full_check=True)
    page = (tmp_path / "slim.onnx.run" / "report.html").read_text()
    assert "The front" in page
    assert "Each device" in page
    assert (tmp_path / "slim.onnx.run" / "front1" / "report.html").exists()


@pytest.mark.slow
def test_the_least_latency_that_keeps_a_score(ortrim, small_net, small_images, tmp_path):
    output = tmp_path / "slim.onnx"
    flags = ("--min-score", "0.8", "--episodes", "14", *FAST, "-o", output)
    result = ortrim("compress", small_net, "--data", small_images, *flags)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["score"]["slim"] >= 0.8
    assert found["latency"]["ratio"] <= found["target"]["ratio"] <= 0.9
    assert found["settings"]["target"] == "least"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--latency, or --min-score"),
        (("--min-score", "0.9", "--steps", "2"), "need a --latency"),
        (("--latency", "0.6x", "--front", "0"), "--front must be at least 1"),
        (("--latency", "0.6x", "--front", "2", "--steps", "2"), "do not go together"),
        (("--latency", "0.6x", "--jobs", "0"), "--jobs must be at least 1"),
        (("--latency", "0.6x", "--device", "cpu:threads=1", "--device", "cpu:threads=1"), "same device twice"),
        (("--latency", "0.6x", "--correction", "none"), "sequential or independent"),
    ],
)
def test_what_makes_no_sense_is_refused(refused, small_net, small_images, flags, said):
    assert said in refused(2, "compress", small_net, "--data", small_images, "-o", "x.onnx", *flags)


@pytest.mark.slow
def test_several_candidates_are_scored_at_a_time(process, small_net, small_images, tmp_path):
    output = tmp_path / "slim.onnx"
    flags = ("--latency", "0.7x", "--episodes", "6", "--jobs", "2", *FAST, "-o", output)
    done = process("compress", small_net, "--data", small_images, *flags)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["search"]["episodes"] == 6
    assert found["latency"]["ratio"] <= 0.7
