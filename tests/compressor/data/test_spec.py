import pytest
from onnx import TensorProto, helper

from ortrim.compressor.data import InputSpec
from ortrim.errors import InputError, ModelError


def test_layouts(image_spec):
    assert image_spec().inputs[0].image.sample_shape() == (3, 8, 6)
    assert image_spec(("N", 8, 6, 3)).inputs[0].image.channels_last
    assert image_spec((1, 1, 8, 6)).inputs[0].image.channels == 1
    assert not image_spec(("N", 3, "h", 3)).inputs[0].image.channels_last
    assert image_spec(("N", "c", 8, 6)).inputs[0].image.channels is None
    assert image_spec(("N", 4, 31, 47)).image is None
    assert image_spec(("N", 512)).image is None


def test_size_fills_open_dimensions(image_spec):
    assert image_spec(("N", 3, "h", "w"), size=(8, 6)).inputs[0].shape == (None, 3, 8, 6)
    assert image_spec((1, "h", "w", 3), size=(8, 6)).inputs[0].shape == (1, 8, 6, 3)
    with pytest.raises(InputError, match=r"--size 9 6 does not fit input 'x'.*8x6"):
        image_spec(size=(9, 6))
    with pytest.raises(InputError, match="--size is for images"):
        image_spec(("N", 512), size=(8, 6))


def test_initializers_are_no_inputs():
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("x", "w")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 2], [0.0, 0.0])
    spec = InputSpec.from_model(helper.make_model(helper.make_graph([], "g", values, [], [weight])))
    assert [tensor.name for tensor in spec.inputs] == ["x"]


def test_inputs_that_cannot_be_fed(spec_of, image_spec):
    with pytest.raises(ModelError, match=r"'x'.*only numbers"):
        image_spec(kind=TensorProto.STRING)
    with pytest.raises(ModelError, match="no input"):
        spec_of()
