"""Whether data are still what they were."""

import shutil

import pytest

from ortrim.compressor.data import data_identity


def folder(path):
    (path / "cats").mkdir(parents=True)
    (path / "cats" / "0.png").write_bytes(b"first")
    (path / "labels.csv").write_text("file,label\ncats/0.png,3\n")
    return path


def test_where_it_lies_does_not_matter(tmp_path):
    first = folder(tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    assert data_identity(first) == data_identity(tmp_path / "second")
    (tmp_path / "a.npz").write_bytes(b"images")
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    assert data_identity(tmp_path / "a.npz") == data_identity(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / "labels.csv").write_text("file,label\ncats/0.png,4\n"),
        lambda path: (path / "labels.csv").unlink(),
        lambda path: (path / "cats" / "1.png").write_bytes(b"second"),
        lambda path: (path / "cats" / "0.png").write_bytes(b"another"),
        lambda path: (path / "cats").rename(path / "dogs"),
    ],
)
def test_what_it_holds_does(tmp_path, change):
    path = folder(tmp_path / "images")
    before = data_identity(path)
    change(path)
    assert data_identity(path) != before


def test_a_hidden_file_is_no_data(tmp_path):
    path = folder(tmp_path / "images")
    before = data_identity(path)
    (path / ".DS_Store").write_bytes(b"of a file manager")
    assert data_identity(path) == before
