import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from ortrim.compressor.data import Preprocessing, load_data
from ortrim.errors import DataError, InputError

RANDOM = np.random.default_rng(0)


def pixels(samples=5, height=8, width=6, channels=3):
    return RANDOM.integers(0, 256, (samples, height, width, channels), dtype=np.uint8)


def save(path: Path, **arrays):
    np.savez(path, **arrays)
    return path


def test_pixels_reach_the_model_in_its_own_order(tmp_path, image_spec, whole):
    images, labels = pixels(), np.arange(5)
    path = save(tmp_path / "d.npz", images=images, labels=labels)
    first = load_data(path, image_spec())
    last = load_data(path, image_spec(("N", 8, 6, 3)))
    np.testing.assert_allclose(whole(last), images / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(whole(first), whole(last).transpose(0, 3, 1, 2))
    assert whole(first).dtype == np.float32
    np.testing.assert_array_equal(first.labels, labels)
    assert first.labels.dtype == np.int64


def test_input_types(tmp_path, image_spec, whole, refusal):
    images = pixels()
    path = save(tmp_path / "d.npz", images=images)
    assert whole(load_data(path, image_spec(kind=TensorProto.FLOAT16))).dtype == np.float16
    raw = whole(load_data(path, image_spec(kind=TensorProto.UINT8)))
    np.testing.assert_array_equal(raw, images.transpose(0, 3, 1, 2))
    assert raw.dtype == np.uint8
    with pytest.raises(InputError, match="takes pixels as they are"):
        load_data(path, image_spec(kind=TensorProto.UINT8), Preprocessing.parse(scale=2))
    assert "int8" in refusal(path, image_spec(kind=TensorProto.INT8))


def test_float_images_are_taken_as_they_are(tmp_path, image_spec, whole):
    images = RANDOM.normal(size=(5, 3, 8, 6)).astype(np.float32)
    path = save(tmp_path / "d.npz", images=images)
    np.testing.assert_array_equal(whole(load_data(path, image_spec())), images)
    np.testing.assert_array_equal(whole(load_data(path, image_spec(("N", 8, 6, 3)))), images.transpose(0, 2, 3, 1))
    own = save(tmp_path / "own.npz", x=images.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(whole(load_data(own, image_spec(("N", 8, 6, 3)))), images.transpose(0, 2, 3, 1))
    with pytest.raises(InputError, match=r"--mean/--std is for uint8 pixels"):
        load_data(path, image_spec(), Preprocessing.parse(mean=(0.5, 0.5, 0.5)))


def test_grey_images_may_lack_the_channel_axis(tmp_path, image_spec, whole):
    images = pixels(channels=1)
    path = save(tmp_path / "d.npz", images=images[..., 0])
    assert whole(load_data(path, image_spec((1, 1, 8, 6)))).shape == (5, 1, 8, 6)
    floats = save(tmp_path / "f.npz", images=images[..., 0].astype(np.float32))
    assert whole(load_data(floats, image_spec((1, 1, 8, 6)))).shape == (5, 1, 8, 6)


def test_open_sizes_come_from_the_data(tmp_path, image_spec, whole):
    path = save(tmp_path / "d.npz", images=pixels())
    assert whole(load_data(path, image_spec(("N", 3, "h", "w")))).shape == (5, 3, 8, 6)


def test_several_inputs(tmp_path, spec_of):
    spec = spec_of(("a", TensorProto.FLOAT, (1, 1, 7)), ("state", TensorProto.FLOAT, (1, 2, 4)))
    a, state = (RANDOM.normal(size=(5, *shape)).astype(np.float32) for shape in ((1, 7), (2, 4)))
    dataset = load_data(save(tmp_path / "d.npz", a=a, state=state), spec)
    batches = list(dataset.batches())
    assert [batch.feeds["state"].shape for batch in batches] == [(1, 2, 4)] * 5
    np.testing.assert_array_equal(batches[3].feeds["a"], a[3:4])


def test_images_beside_another_input(tmp_path, spec_of):
    spec = spec_of(("x", TensorProto.FLOAT, ("N", 3, 8, 6)), ("age", TensorProto.FLOAT, ("N", 1)))
    path = save(tmp_path / "d.npz", images=pixels(), age=np.zeros((5, 1)))
    feeds = load_data(path, spec, Preprocessing.parse(scale=0.5)).feeds()
    assert feeds["x"].shape == (5, 3, 8, 6)
    assert feeds["x"].max() > 1
    assert feeds["age"].dtype == np.float32


def test_whole_inputs_a_sample(tmp_path, spec_of, refusal):
    """A state whose batch is its second axis, and a scalar: each sample is one run."""
    spec = spec_of(
        ("a", TensorProto.FLOAT, ("N", 7)), ("state", TensorProto.FLOAT, (2, "N", 4)), ("rate", TensorProto.INT64, ())
    )
    a = RANDOM.normal(size=(5, 7)).astype(np.float32)
    state = RANDOM.normal(size=(5, 2, 1, 4)).astype(np.float32)
    dataset = load_data(save(tmp_path / "d.npz", a=a, state=state, rate=np.full(5, 16000)), spec)
    batch = list(dataset.batches())[2]
    np.testing.assert_array_equal(batch.feeds["state"], state[2])
    np.testing.assert_array_equal(batch.feeds["a"], a[2:3])
    assert batch.feeds["rate"] == 16000
    assert batch.feeds["rate"].shape == ()
    wrong = save(tmp_path / "w.npz", a=a[:2], state=state[0].repeat(1, 0), rate=np.full(2, 16000))
    assert "(samples, 2, ...)" in refusal(wrong, spec)


def test_fixed_batches_repeat_the_last_sample(tmp_path, image_spec):
    dataset = load_data(save(tmp_path / "d.npz", images=pixels(5)), image_spec((2, 3, 8, 6)))
    batches = list(dataset.batches(batch_size=4))
    assert [batch.feeds["x"].shape[0] for batch in batches] == [2, 2, 2]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(batches[-1].feeds["x"][0], batches[-1].feeds["x"][1])


def test_free_batches(tmp_path, image_spec):
    dataset = load_data(save(tmp_path / "d.npz", images=pixels(5)), image_spec())
    assert [len(batch) for batch in dataset.batches(batch_size=3)] == [3, 2]
    np.testing.assert_array_equal(np.concatenate([b.indices for b in dataset.batches(3)]), np.arange(5))


def test_limit_keeps_order_and_balance(tmp_path, image_spec, whole):
    labels = np.repeat(np.arange(4), 25)
    path = save(tmp_path / "d.npz", images=pixels(100), labels=labels)
    some = load_data(path, image_spec(), limit=20, seed=3)
    assert len(some) == 20
    np.testing.assert_array_equal(np.bincount(some.labels), [5, 5, 5, 5])
    np.testing.assert_array_equal(some.labels, np.sort(some.labels))
    np.testing.assert_array_equal(whole(some), whole(load_data(path, image_spec(), limit=20, seed=3)))
    assert not np.array_equal(whole(some), whole(load_data(path, image_spec(), limit=20, seed=4)))


GOOD = {"images": pixels(), "labels": np.arange(5)}


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"pictures": pixels(), "y": np.arange(5)}, "lacks 'images' (found: 'pictures', 'y')"),
        ({}, "found: nothing"),
        ({"images": pixels(0)}, "no samples"),
        ({"images": pixels(channels=1)}, "(N, 8, 6, 3)"),
        ({"images": pixels(height=9)}, "(N, 8, 6, 3)"),
        ({"images": pixels().transpose(0, 3, 1, 2)}, "channels on the last axis"),
        ({"images": pixels().astype(np.float32)}, "channels on axis 1"),
        ({"images": pixels()[0]}, "uint8 images of"),
        ({"images": np.uint8(3)}, "uint8 images of"),
        ({"images": pixels().astype(np.int64)}, "of type int64"),
        ({"images": np.full((5, 3, 8, 6), np.nan, np.float32)}, "NaN or infinity, first in sample 0"),
        ({"images": np.array([[1, "a"]], dtype=object)}, "Python objects"),
        ({"images": np.array(["a", "b"])}, "of type <U1"),
        (GOOD | {"labels": np.arange(4)}, "'labels' is of shape (4,), but there are 5 samples"),
        (GOOD | {"labels": np.eye(5)}, "'labels' is of shape (5, 5)"),
        (GOOD | {"labels": np.array([0, 1, -1, 2, 3])}, "label -1 of sample 2"),
        (GOOD | {"labels": np.array([0, 1, 1.5, 2, 3])}, "label 1.5 of sample 2"),
        (GOOD | {"labels": np.array([0, 1, np.nan, 2, 3])}, "label nan of sample 2"),
        (GOOD | {"labels": np.array(list("abcde"))}, "whole numbers"),
    ],
)
def test_bad_archives(tmp_path, arrays, expected, image_spec, refusal):
    assert expected in refusal(save(tmp_path / "d.npz", **arrays), image_spec())


def test_infinity_is_found_where_it_is(tmp_path, image_spec, refusal):
    images = np.zeros((5, 3, 8, 6), np.float32)
    images[3, 1, 2, 2] = np.inf
    assert "sample 3" in refusal(save(tmp_path / "d.npz", images=images), image_spec())


def test_labels_of_other_forms(tmp_path, image_spec):
    for labels in (np.arange(5)[:, None], np.arange(5.0), np.arange(5, dtype=np.uint8)):
        dataset = load_data(save(tmp_path / "d.npz", images=pixels(), labels=labels), image_spec())
        np.testing.assert_array_equal(dataset.labels, np.arange(5))


def test_arrays_the_model_does_not_take(tmp_path, image_spec):
    """What is not needed is not read, so it may be anything."""
    load_data(save(tmp_path / "d.npz", images=pixels(), names=np.array(["x", None], dtype=object)), image_spec())


def test_named_arrays_of_the_wrong_kind(tmp_path, spec_of, refusal):
    spec = spec_of(("tokens", TensorProto.INT32, ("N", 4)))
    assert "of type float64" in refusal(save(tmp_path / "a.npz", tokens=np.zeros((5, 4))), spec)
    assert "do not fit" in refusal(save(tmp_path / "b.npz", tokens=np.full((5, 4), 2**40)), spec)
    assert "(N, 4)" in refusal(save(tmp_path / "c.npz", tokens=np.zeros((5, 3), int)), spec)
    two = spec_of(("a", TensorProto.FLOAT, ("N", 4)), ("b", TensorProto.FLOAT, ("N", 4)))
    assert "lacks 'b'" in refusal(save(tmp_path / "d.npz", a=np.zeros((5, 4))), two)
    assert "'a' 5, 'b' 6" in refusal(save(tmp_path / "e.npz", a=np.zeros((5, 4)), b=np.zeros((6, 4))), two)


def test_damaged_archives(tmp_path, image_spec, refusal):
    path = save(tmp_path / "d.npz", **GOOD)
    good = path.read_bytes()
    for content in (b"", b"not a zip", RANDOM.bytes(500), good[: len(good) // 2], good[200:]):
        path.write_bytes(content)
        refusal(path, image_spec())
    array = io.BytesIO()
    np.save(array, pixels())
    path.write_bytes(array.getvalue())
    assert "not a .npz archive" in refusal(path, image_spec())


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_flipped_byte_never_ends_in_a_traceback(tmp_path_factory, image_spec, position, value):
    path = tmp_path_factory.getbasetemp() / "flipped.npz"
    content = io.BytesIO()
    np.savez_compressed(content, **GOOD)
    damaged = bytearray(content.getvalue())
    damaged[position % len(damaged)] = value
    path.write_bytes(damaged)
    try:
        load_data(path, image_spec())
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a flip may also do no harm, so raising is not required


@pytest.mark.parametrize("shape", [f"({10**30},)", f"({10**12},)", "(-1,)", "(3,", "3"])
def test_hostile_headers(tmp_path, shape, image_spec, refusal):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"12345")
    assert "'images' cannot be read" in refusal(path, image_spec())


def test_missing_and_odd_paths(tmp_path, image_spec, refusal):
    assert "does not exist" in refusal(tmp_path / "none.npz", image_spec())
    assert "neither a file nor a folder" in refusal(Path("/dev/null"), image_spec())
