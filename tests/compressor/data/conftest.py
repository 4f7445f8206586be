from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from ortrim.compressor.data import InputSpec, load_data
from ortrim.errors import DataError


@pytest.fixture(scope="session")
def spec_of():
    """The spec of a model with these inputs: (name, element type, shape)."""

    def make(*inputs, size=None):
        values = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
        return InputSpec.from_model(helper.make_model(helper.make_graph([], "g", values, [])), size)

    return make


@pytest.fixture(scope="session")
def image_spec(spec_of):
    """The spec of a model with one input `x`."""

    def make(shape=("N", 3, 8, 6), kind=TensorProto.FLOAT, size=None):
        return spec_of(("x", kind, shape), size=size)

    return make


@pytest.fixture
def save_image():
    def save(path: Path, image: np.ndarray):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(path)

    return save


@pytest.fixture(scope="session")
def whole():
    """Every sample as the model sees it."""

    def gather(dataset, name="x"):
        return np.concatenate([batch.feeds[name][: len(batch)] for batch in dataset.batches()])

    return gather


@pytest.fixture(scope="session")
def refusal():
    """The message with which `load_data` refuses, which must be one line and name the path."""

    def load(path, *arguments, **options):
        with pytest.raises(DataError) as caught:
            load_data(path, *arguments, **options)
        message = str(caught.value)
        assert "\n" not in message
        assert str(path) in message
        return message

    return load
