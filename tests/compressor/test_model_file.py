"""Models that one message cannot hold go to two files."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from ortrim.compressor.model_file import model_bytes, write_model
from ortrim.errors import OutputError
from ortrim.graph import load


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    weights = {"a": (16, 64), "b": (64, 40), "tiny": (40,)}
    tensors = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in weights.items()]
    tensors.append(helper.make_tensor("half", onnx.TensorProto.FLOAT, [40, 8], rng.standard_normal(320)))  # not raw
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["y"]),
        helper.make_node("MatMul", ["y", "b"], ["z"]),
        helper.make_node("Add", ["z", "tiny"], ["w"]),
        helper.make_node("MatMul", ["w", "half"], ["out"]),
    ]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", s]) for n, s in (("x", 16), ("out", 8))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(source):
    x = np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_a_small_model_is_one_file(tmp_path, model):
    path = tmp_path / "model.onnx"
    assert write_model(path, model, overwrite=False) == (path,)
    assert path.read_bytes() == model.SerializeToString()
    assert model_bytes(path) == path.stat().st_size


def test_a_large_model_keeps_its_weights_beside_it(tmp_path, model):
    path = tmp_path / "model.onnx"
    before = model.SerializeToString()
    written = write_model(path, model, overwrite=False, limit=1000)
    assert written == (path, tmp_path / "model.onnx.data")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert model.SerializeToString() == before
    np.testing.assert_array_equal(run(str(path)), run(before))
    onnx.checker.check_model(str(path), full_check=True)
    again = load(path)
    np.testing.assert_allclose(run(again.SerializeToString()), run(before), rtol=1e-6)
    assert model_bytes(path) == sum(file.stat().st_size for file in written)


def test_weights_of_another_model_are_not_written_over(tmp_path, model):
    path = tmp_path / "model.onnx"
    (tmp_path / "model.onnx.data").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"model.onnx.data exists already"):
        write_model(path, model, overwrite=False, limit=1000)
    assert not path.exists()
    assert (tmp_path / "model.onnx.data").read_bytes() == b"mine"
    write_model(path, model, overwrite=True, limit=1000)
    np.testing.assert_array_equal(run(str(path)), run(model.SerializeToString()))
