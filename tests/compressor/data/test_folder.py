import csv
from pathlib import Path

import numpy as np
import pytest

from ortrim.compressor.data import Preprocessing, load_data
from ortrim.compressor.data import images as decoding

RANDOM = np.random.default_rng(0)


def pixels(samples=5, height=8, width=6, channels=3):
    return RANDOM.integers(0, 256, (samples, height, width, channels), dtype=np.uint8)


def test_images_alone(tmp_path, image_spec, save_image, whole):
    images = pixels()
    for i, image in enumerate(images):
        save_image(tmp_path / f"{i}.png", image)
    (tmp_path / "notes.txt").write_text("not an image")
    dataset = load_data(tmp_path, image_spec())
    assert dataset.labels is None
    np.testing.assert_allclose(whole(dataset), images.transpose(0, 3, 1, 2) / np.float32(255), rtol=1e-6)
    assert len(load_data(tmp_path, image_spec(), limit=2)) == 2


def test_class_folders(tmp_path, image_spec, save_image):
    for i, image in enumerate(pixels(6)):
        save_image(tmp_path / ("cat", "dog", "eel")[i % 3] / f"{i}.png", image)
    (tmp_path / ".cache").mkdir()
    dataset = load_data(tmp_path, image_spec())
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1, 1, 2, 2])
    assert tuple(dataset.class_names) == ("cat", "dog", "eel")


def test_numbered_class_folders_are_the_labels(tmp_path, image_spec, save_image, refusal):
    for name in ("007", "12", "3"):
        save_image(tmp_path / name / "a.png", pixels(1)[0])
    dataset = load_data(tmp_path, image_spec())
    np.testing.assert_array_equal(np.sort(dataset.labels), [3, 7, 12])
    assert not dataset.class_names
    save_image(tmp_path / "7" / "a.png", pixels(1)[0])
    assert "same number" in refusal(tmp_path, image_spec())


def write_table(folder: Path, rows, header=("file", "label")):
    with open(folder / "labels.csv", "w", newline="") as table:
        csv.writer(table).writerows([header, *rows])


def test_labels_csv(tmp_path, image_spec, save_image):
    for name in "abc":
        save_image(tmp_path / "deep" / f"{name}.png", pixels(1)[0])
    write_table(tmp_path, [("deep/c.png", 7), ("deep/a.png", 2)])
    dataset = load_data(tmp_path, image_spec())
    np.testing.assert_array_equal(dataset.labels, [7, 2])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a.png", 1), ("none.png", 2)], "line 3: none.png is not a file"),
        ([("a.png", 1), ("a.png", 2)], "line 3: a.png stands there twice"),
        ([("a.png", -1)], "line 2: label '-1' is not a whole number"),
        ([("a.png", "1.5")], "label '1.5'"),
        ([("a.png", "cat")], "label 'cat'"),
        ([("a.png",)], "label ''"),
        ([("", 1)], "no file name"),
        ([("..", 1)], "not a file"),
        ([], "names no files"),
    ],
)
def test_bad_tables(tmp_path, rows, expected, image_spec, save_image, refusal):
    save_image(tmp_path / "a.png", pixels(1)[0])
    write_table(tmp_path, rows)
    assert expected in refusal(tmp_path, image_spec())


def test_tables_that_are_none(tmp_path, image_spec, save_image, refusal):
    save_image(tmp_path / "a.png", pixels(1)[0])
    write_table(tmp_path, [("a.png", 1)], header=("name", "class"))
    assert "columns file and label" in refusal(tmp_path, image_spec())
    for content in (b"", b"\xff\xfe\x00file", b"file,label\na.png\x00,1\n"):
        (tmp_path / "labels.csv").write_bytes(content)
        refusal(tmp_path, image_spec())


def test_other_sizes_cover_and_are_cut_at_the_centre(tmp_path, image_spec, save_image, whole):
    wide = np.zeros((16, 40, 3), np.uint8)
    wide[:, 14:26] = 200
    save_image(tmp_path / "wide.png", wide)
    pixel = whole(load_data(tmp_path, image_spec(), Preprocessing.parse(scale=1)))
    assert pixel.shape == (1, 3, 8, 6)
    # Scaled by one half, the bright band is six pixels wide: all that is left.
    assert pixel.min() > 150


def test_grey_models_get_grey_images(tmp_path, image_spec, save_image, whole):
    save_image(tmp_path / "a.png", np.full((8, 6, 3), 100, np.uint8))
    pixel = whole(load_data(tmp_path, image_spec((1, 1, 8, 6)), Preprocessing.parse(scale=1)))
    np.testing.assert_array_equal(pixel, np.full((1, 1, 8, 6), 100))


def test_open_sizes_need_one_size(tmp_path, image_spec, save_image, whole, refusal):
    open_spec = ("N", 3, "h", "w")
    save_image(tmp_path / "a.png", pixels(1)[0])
    assert whole(load_data(tmp_path, image_spec(open_spec))).shape == (1, 3, 8, 6)
    save_image(tmp_path / "b.png", pixels(1, height=9)[0])
    assert "--size H W" in refusal(tmp_path, image_spec(open_spec))
    assert whole(load_data(tmp_path, image_spec(open_spec, size=(4, 4)))).shape == (2, 3, 4, 4)


def test_large_folders_are_decoded_on_demand(tmp_path, monkeypatch, image_spec, save_image, whole):
    images = pixels(6)
    for i, image in enumerate(images):
        save_image(tmp_path / ("cat", "dog")[i % 2] / f"{i}.png", image)
    in_memory = load_data(tmp_path, image_spec())
    monkeypatch.setattr(decoding, "_MEMORY", 100)
    on_demand = load_data(tmp_path, image_spec())
    assert isinstance(on_demand.columns["x"].pixels, decoding.ImageFiles)
    np.testing.assert_array_equal(whole(in_memory), whole(on_demand))
    np.testing.assert_array_equal(whole(in_memory.subset([4, 1])), whole(on_demand.subset([4, 1])))


def test_bad_folders(tmp_path, image_spec, save_image, refusal):
    assert "no images" in refusal(tmp_path, image_spec())
    save_image(tmp_path / "cat" / "a.png", pixels(1)[0])
    (tmp_path / "dog").mkdir()
    assert "dog holds no images" in refusal(tmp_path, image_spec())
    save_image(tmp_path / "b.png", pixels(1)[0])
    assert "both beside and inside" in refusal(tmp_path, image_spec())
    assert "give a .npz" in refusal(tmp_path, image_spec(("N", 512)))


def test_unreadable_images_are_named(tmp_path, image_spec, save_image, refusal):
    save_image(tmp_path / "a.png", pixels(1)[0])
    good = (tmp_path / "a.png").read_bytes()
    for content in (b"", b"text", good[:60]):
        (tmp_path / "broken.png").write_bytes(content)
        assert "broken.png cannot be read" in refusal(tmp_path, image_spec())
        assert "broken.png cannot be read" in refusal(tmp_path, image_spec(("N", 3, "h", "w")))
