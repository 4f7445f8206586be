"""What `load` refuses, what it keeps, and that the loaded model computes what the file does."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.errors import ModelError
from ortrim.graph import analyze, finish, load, read, slim, verify


@pytest.fixture
def small(net):
    """Three nodes and a classifier."""
    n = net()
    return n.model(n.head(n.relu(n.conv("x", 6))))


def run(model, *shape, seed=0):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    image = np.random.default_rng(seed).standard_normal(shape or (2, 3, 8, 8)).astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: image})


def same(a, b):
    return all(x.dtype == y.dtype and np.allclose(x, y, rtol=1e-5, atol=1e-5) for x, y in zip(a, b, strict=True))


# -- refused --------------------------------------------------------------------------------------------------------
def refusal(path):
    with pytest.raises(ModelError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    with pytest.raises(ModelError):
        analyze(path)
    return message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\x00", "not an ONNX model"),
        (b"hello, this is no model\n", "not an ONNX model"),
        (b'{"json": true}', "not an ONNX model"),
        (np.random.default_rng(0).bytes(4096), "not an ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an ONNX model"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "no nodes"),
    ],
)
def test_files_that_are_no_models(tmp_path, content, says):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    assert says in refusal(path)


def test_missing_file_and_folder(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.onnx")
    assert "not a file" in refusal(tmp_path)


def test_every_truncation_is_refused(tmp_path, small):
    path, content = tmp_path / "cut.onnx", small.SerializeToString()
    for size in range(1, len(content), len(content) // 40):
        path.write_bytes(content[:size])
        refusal(path)


def test_an_old_operator_set_is_refused_from_file_and_memory(tmp_path, small):
    small.opset_import[0].version = 6
    path = tmp_path / "old.onnx"
    path.write_bytes(small.SerializeToString())
    assert "operator set 6" in refusal(path)
    with pytest.raises(ModelError, match="the model: operator set 6"):
        load(small)


def dangling(model):
    model.graph.node[1].input[0] = "nobody"


def unknown_operator(model):
    model.graph.node[1].op_type = "Rellu"


def bad_type(model):
    model.graph.initializer[0].data_type = 99


def bad_size(model):
    model.graph.initializer[0].dims[0] += 1


def unsorted(model):
    model.graph.node.append(model.graph.node[0])
    del model.graph.node[0]


@pytest.mark.parametrize("damage", [dangling, unknown_operator, bad_type, bad_size, unsorted])
def test_invalid_graphs_are_refused(tmp_path, small, damage):
    damage(small)
    path = tmp_path / "invalid.onnx"
    path.write_bytes(small.SerializeToString())
    refusal(path)
    with pytest.raises(ModelError):
        load(small)


def test_what_cannot_be_written_again_is_refused(net):
    n = net()
    n.nodes.append(helper.make_node("Constant", [], ["words"], "words", value_strings=["a", "b"]))
    n.nodes.append(helper.make_node("Identity", ["words"], ["text"], "text"))
    with pytest.raises(ModelError, match="text"):
        load(n.model(n.conv("x", 4), helper.make_tensor_value_info("text", TensorProto.STRING, (2,))))


# -- kept -----------------------------------------------------------------------------------------------------------
def test_the_argument_is_left_alone_and_loading_twice_is_loading_once(small):
    before = small.SerializeToString()
    once = load(small)
    assert small.SerializeToString() == before
    assert load(once).SerializeToString(deterministic=True) == once.SerializeToString(deterministic=True)


def test_header_names_and_symbols_are_kept(net):
    n = net(("batch", 3, "height", 8))
    model = n.model(n.head(n.conv("x", 4)))
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.graph.input[0].doc_string = "an image"
    model.producer_name, model.producer_version, model.model_version = "someone", "1.2", 7
    model.domain, model.doc_string = "org.example", "what it is for"
    helper.set_model_props(model, {"author": "me", "classes": "a,b"})
    loaded = load(model)
    for field in ("producer_name", "producer_version", "model_version", "domain", "doc_string", "ir_version"):
        assert getattr(loaded, field) == getattr(model, field)
    assert {p.key: p.value for p in loaded.metadata_props} == {"author": "me", "classes": "a,b"}
    assert list(loaded.graph.input) == list(model.graph.input)
    assert list(loaded.graph.output) == list(model.graph.output)
    assert list(loaded.opset_import) == list(model.opset_import)
    small = slim(loaded, {"Conv_0": [1]})
    assert list(small.graph.input) == list(model.graph.input)
    assert list(small.graph.output) == list(model.graph.output)


@pytest.mark.parametrize("version", [3, 4, 10])
def test_initializers_are_no_longer_inputs(small, version):
    """As IR version 3 had it, and as later ones still allow: values that a caller could override."""
    small.ir_version = version
    small.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in small.graph.initializer
    )
    loaded = load(small)
    assert [value.name for value in loaded.graph.input] == ["x"]
    assert loaded.ir_version >= 4
    assert [group.size for group in analyze(loaded).groups] == [6]
    assert same(run(loaded), run(small))


def test_constant_nodes_become_initializers(net):
    n = net()
    weight = numpy_helper.from_array(n.rng.standard_normal((6, 3, 3, 3)).astype(np.float32))
    n.nodes.append(helper.make_node("Constant", [], ["kernel"], "kernel", value=weight))
    n.nodes.append(helper.make_node("Constant", [], ["one"], "one", value_float=1.0))
    x = n.op("Add", n.op("Conv", "x", "kernel", channels=6), "one")
    model = n.model(n.head(x))
    loaded = load(model)
    assert "Constant" not in {node.op_type for node in loaded.graph.node}
    assert [group.size for group in analyze(loaded).groups] == [6]
    assert same(run(loaded), run(model))


@pytest.mark.parametrize("name", ["", "same", "Relu:t1_0"])
def test_nodes_get_names_of_their_own(small, name):
    for node in small.graph.node:
        node.name = name
    small.graph.node[2].name = "Relu:t1_0"  # what the second would be called
    names = [node.name for node in load(small).graph.node]
    assert len(set(names)) == len(names)
    assert "" not in names
    assert names == [node.name for node in load(small).graph.node]


def test_local_functions_are_inlined(net):
    n = net()
    body = [helper.make_node("Conv", ["a", "w"], ["c"]), helper.make_node("Relu", ["c"], ["b"])]
    function = helper.make_function("local", "Block", ["a", "w"], ["b"], body, [helper.make_opsetid("", 17)])
    x = n.op("Block", "x", n.weight(6, 3, 3, 3), domain="local", channels=6)
    x = n.op("Block", x, n.weight(4, 6, 3, 3), domain="local", channels=4)
    model = n.model(n.op("Flatten", n.op("GlobalAveragePool", x)))
    model.functions.append(function)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(model.graph.output[0].name, 1, (2, 4)))
    loaded = load(model)
    assert not loaded.functions
    assert [group.size for group in analyze(loaded).groups] == [6]
    assert same(run(loaded), run(model))


def test_external_data(tmp_path, small):
    path, wanted = tmp_path / "model.onnx", run(small)
    onnx.save_model(small, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    assert same(run(load(path)), wanted)
    bare = onnx.load(path, load_external_data=False)
    with pytest.raises(ModelError, match="load it by its path"):
        load(bare)
    (tmp_path / "weights.bin").unlink()
    refusal(path)


def test_a_weight_used_twice_is_copied_and_shared_again(net):
    n = net((2, 6, 8, 8))
    shared = n.weight(6, 6, 3, 3)
    a = n.op("Conv", "x", shared, channels=6, pads=[1] * 4)
    b = n.op("Conv", n.relu(a), shared, channels=6, pads=[1] * 4)
    model = n.model(n.head(n.op("Add", a, b)))
    loaded = load(model)
    first, second = (node.input[1] for node in loaded.graph.node if node.op_type == "Conv")
    assert first == shared
    assert second != shared
    assert same(run(loaded, 2, 6, 8, 8), run(model, 2, 6, 8, 8))
    done = finish(loaded, {})
    assert {node.input[1] for node in done.graph.node if node.op_type == "Conv"} == {shared}
    assert len(done.graph.initializer) == len(model.graph.initializer)
    assert same(run(done, 2, 6, 8, 8), run(model, 2, 6, 8, 8))


def test_half_precision(net, oracle):
    n = net(dtype=np.float16)
    analysis = oracle(n.model(n.head(n.relu(n.bn(n.conv(n.relu(n.conv("x", 8)), 6))))))
    assert [group.size for group in analysis.groups] == [8, 6]


def test_what_the_file_says_of_inner_tensors_is_not_believed(net):
    """A stale size, read by Shape, must not become a constant."""
    n = net()
    x = n.op("MaxPool", n.conv("x", 6), kernel_shape=[2, 2], strides=[2, 2])
    ones = n.op("ConstantOfShape", n.op("Shape", x), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1]))
    model = n.model(n.head(n.conv(n.op("Add", x, ones), 4)))
    wanted = run(model)
    stale = next(value for value in model.graph.value_info if value.name == x)
    stale.type.tensor_type.shape.dim[1].dim_value = 1
    stale.type.tensor_type.shape.dim[3].dim_value = 1
    loaded = load(model)
    assert same(run(loaded), wanted)
    removal = {group.name: [0] for group in analyze(loaded).groups}
    verify(loaded, slim(loaded, removal), removal)


def test_noise_is_not_folded(net):
    n = net((2, 3, 8, 8))
    n.nodes.append(helper.make_node("RandomNormal", [], ["noise"], "noise", shape=[2, 3, 8, 8]))
    loaded = load(n.model(n.conv(n.op("Add", "x", "noise"), 4)))
    assert "RandomNormal" in {node.op_type for node in loaded.graph.node}


def test_read_gives_the_file_as_it_is(tmp_path, small):
    path = tmp_path / "model.onnx"
    onnx.save(small, path)
    assert read(path) == small
    assert [group.size for group in analyze(str(path)).groups] == [6]
