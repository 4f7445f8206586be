import hashlib
import os

import onnx
import pytest

from ortrim.compressor.files import check_output, sha256, write_whole
from ortrim.errors import OutputError
from ortrim.models import digits


def test_writes_bytes_and_makes_parents(tmp_path):
    path = write_whole(tmp_path / "a" / "b.bin", b"whole")
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["b.bin"]


def test_writes_through_a_function(tmp_path):
    path = write_whole(tmp_path / "b.bin", lambda file: file.write(b"x" * 10))
    assert path.read_bytes() == b"x" * 10


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("failure", [RuntimeError, Interrupted])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def half(file):
        file.write(b"half")
        raise failure

    with pytest.raises(failure):
        write_whole(path, half)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_new_file_does_not_replace_one_that_appeared(tmp_path):
    path = tmp_path / "out"

    def slow(file):
        file.write(b"ours")
        path.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="--force"):
        write_whole(path, slow, overwrite=False)
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["out"]
    path.unlink()
    assert write_whole(path, b"ours", overwrite=False).read_bytes() == b"ours"


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        assert write_whole(tmp_path / "out", b"").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(old)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_unwritable_places_are_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file" / "out", tmp_path, tmp_path / ("n" * 300)):
        with pytest.raises(OutputError) as caught:
            write_whole(place, b"")
        assert "\n" not in str(caught.value)
        with pytest.raises(OutputError):
            check_output(place)
    assert os.listdir(tmp_path) == ["file"]


def test_check_output_writes_nothing(tmp_path):
    path = tmp_path / "new" / "deep" / "out.onnx"
    assert check_output(path) == path
    assert os.listdir(tmp_path) == []


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"")
    with pytest.raises(OutputError, match=r"out exists already.*--force"):
        check_output(path)
    assert check_output(path, force=True) == path


def test_an_input_is_never_an_output(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    (tmp_path / "link.onnx").symlink_to(path)
    for name in ("model.onnx", "link.onnx"):
        with pytest.raises(OutputError, match="also an input"):
            check_output(tmp_path / name, force=True, inputs=[path])


def test_what_belongs_to_an_input_is_never_an_output(tmp_path):
    model, beside = onnx.load(digits.MODEL), {"save_as_external_data": True, "location": "weights.bin"}
    onnx.save_model(model, tmp_path / "model.onnx", size_threshold=0, **beside)
    images = tmp_path / "images"
    (images / "cats").mkdir(parents=True)
    (images / "cats" / "0.png").write_bytes(b"image")
    (images / "old.onnx").write_bytes(b"model")
    inputs = [tmp_path / "model.onnx", images]
    for path in (tmp_path / "weights.bin", images / "cats" / "0.png"):
        with pytest.raises(OutputError, match="also an input"):
            check_output(path, force=True, inputs=inputs)
    for path in (tmp_path / "new.bin", images / "old.onnx"):  # a model among images is none of them
        assert check_output(path, force=True, inputs=inputs) == path


def test_a_device_is_never_an_output():
    for write in (lambda: check_output("/dev/null", force=True), lambda: write_whole("/dev/null", b"")):
        with pytest.raises(OutputError, match="not a regular file"):
            write()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permission"):
        check_output(tmp_path / "out")


def test_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256(tmp_path / "f") == sha256(b"abc") == hashlib.sha256(b"abc").hexdigest()
