"""The command line in this process and in real ones, and models and data, good and bad."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from ortrim.compressor.cli import main
from ortrim.compressor.search import meter
from ortrim.models import digits


def contents(folder):
    """Everything below a folder, files with their bytes; not the empty lock that looking into a folder may leave."""
    found = (path for path in folder.rglob("*") if path.name != ".lock")
    return {path: path.read_bytes() if path.is_file() else None for path in found}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Every test runs in a folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measurements in this process are short: whether they can be trusted is tested elsewhere."""
    monkeypatch.setattr(meter, "SEARCH_SECONDS", 0.2)
    monkeypatch.setattr(meter, "FINAL_SECONDS", 1.0)


@pytest.fixture
def ortrim():
    """`ortrim(*args)` in this process: a result with `exit_code`, `stdout` and `stderr`."""

    def run(*args):
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.fixture
def refused(ortrim, place, capfd):
    """`refused(status, *args)`: the command ends with one line, writes nothing anywhere; gives the line."""

    def run(status, *args):
        before = contents(place.parent)
        result = ortrim(*args)
        lines = result.stderr.splitlines()
        assert (result.exit_code, len(lines), result.stdout) == (status, 1, ""), result.output
        assert lines[0].startswith("Error: ")
        assert "internal error" not in lines[0]
        assert contents(place.parent) == before
        assert capfd.readouterr() == ("", "")  # what a library writes past Python's streams
        return lines[0]

    return run


@pytest.fixture(scope="session")
def start():
    """`start(*args)`: the command as a real process, with pipes."""

    def run(*args, **options):
        # One thread for linear algebra: on a busy machine more of them only wait for each other.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "ortrim.compressor.cli", *map(str, args)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, **options)

    return run


@pytest.fixture(scope="session")
def process(start):
    """`process(*args)`: the command as a real process, ended: `returncode`, `stdout`, `stderr`."""

    def run(*args):
        with start(*args) as started:
            out, err = started.communicate(timeout=240)
        return subprocess.CompletedProcess(args, started.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """60 of the digits, labelled."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    with np.load(digits.TEST) as test:
        np.savez(path, images=test["images"][:60], labels=test["labels"][:60])
    return path


@pytest.fixture(scope="session")
def save(build, tmp_path_factory):
    """`save(name, text, shapes)`: what `build` makes, in a file."""

    def write(name, text, shapes):
        path = tmp_path_factory.mktemp("models") / name
        onnx.save(build(text, shapes), path)
        return path

    return write


@pytest.fixture(scope="session")
def frozen_net(save):
    """A model without a channel that could go: its only layer makes the output."""
    text = "net (float[n, 1, 8, 8] image) => (float[n, 4, 8, 8] y) { y = Conv<pads=[1, 1, 1, 1]>(image, w) }"
    return save("frozen.onnx", text, {"w": (4, 1, 3, 3)})


@pytest.fixture(scope="session")
def small_net(save):
    """Three convolutions on 16x16 pixels, whose latency is mostly convolution."""
    text = """net (float[n, 3, 16, 16] image) => (float[n, 6] logits) {
        a = Conv<pads=[1, 1, 1, 1]>(image, wa)
        b = Relu(a)
        c = Conv<pads=[1, 1, 1, 1]>(b, wc)
        d = Relu(c)
        e = Conv<pads=[1, 1, 1, 1]>(d, we)
        f = Relu(e)
        g = GlobalAveragePool(f)
        h = Flatten(g)
        logits = Gemm<transB=1>(h, wl)
    }"""
    shapes = {"wa": (32, 3, 3, 3), "wc": (64, 32, 3, 3), "we": (64, 64, 3, 3), "wl": (6, 64)}
    return save("small.onnx", text, shapes)


@pytest.fixture(scope="session")
def small_images(tmp_path_factory):
    """Random images for `small_net`, without labels."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(path, images=np.random.default_rng(1).integers(0, 256, (96, 16, 16, 3), dtype=np.uint8))
    return path
