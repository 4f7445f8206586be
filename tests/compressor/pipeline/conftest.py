"""A small net with images, and a small job on them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ortrim.compressor import Target, compress
from ortrim.compressor.search import meter
from ortrim.runtime import Latency, Ratio


def write_net(path, width=32, *, slopes=None):
    """Three convolutions with a residual sum on 16x16 pixels, whose latency is mostly convolution.

    With two `slopes`, PRelu with these in turn in place of Relu.
    """
    rng = np.random.default_rng(0)
    weights, nodes = [], []

    def conv(x, name, outputs, inputs):
        w = rng.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(9 * inputs)
        weights.append(numpy_helper.from_array(w.astype(np.float32), f"{name}.w"))
        weights.append(numpy_helper.from_array(rng.standard_normal(outputs).astype(np.float32) / 4, f"{name}.b"))
        nodes.append(helper.make_node("Conv", [x, f"{name}.w", f"{name}.b"], [name], name, pads=[1] * 4))
        return name

    def relu(x, channels=width):
        operator, operands = "Relu", [x]
        if slopes:
            operator, operands = "PRelu", [x, f"{x}.s"]
            each = np.resize(np.float32(slopes), (channels, 1, 1))
            weights.append(numpy_helper.from_array(each, f"{x}.s"))
        nodes.append(helper.make_node(operator, operands, [f"{x}.r"], f"{x}.relu"))
        return f"{x}.r"

    stem = relu(conv("image", "stem", width, 3))
    inner = conv(relu(conv(stem, "first", 2 * width, width), 2 * width), "second", width, 2 * width)
    nodes.append(helper.make_node("Add", [inner, stem], ["sum"], "sum"))
    last = relu(conv(relu("sum"), "third", 2 * width, width), 2 * width)
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pool"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"], "flat"))
    weights.append(numpy_helper.from_array(rng.standard_normal((2 * width, 6)).astype(np.float32), "fc.w"))
    weights.append(numpy_helper.from_array(np.zeros(6, np.float32), "fc.b"))
    nodes.append(helper.make_node("Gemm", ["flat", "fc.w", "fc.b"], ["logits"], "fc"))
    value = helper.make_tensor_value_info
    inputs = [value("image", TensorProto.FLOAT, ("batch", 3, 16, 16))]
    graph = helper.make_graph(nodes, "net", inputs, [value("logits", TensorProto.FLOAT, ("batch", 6))], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    # Spread the votes over the classes, so that agreement means something.
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": rng.random((256, 3, 16, 16), np.float32)})[0]
    scale = 1 / logits.std(0)
    for tensor in model.graph.initializer:
        if tensor.name == "fc.w":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * scale, "fc.w"))
        elif tensor.name == "fc.b":
            tensor.CopyFrom(numpy_helper.from_array(-logits.mean(0) * scale, "fc.b"))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module", autouse=True)
def own_cache(folder):
    """Figures of layers go to a cache of the tests' own, and less time is spent on measuring than a promise needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(meter, "SEARCH_SECONDS", 0.2)
        patch.setattr(meter, "FINAL_SECONDS", 1.0)
        yield


@pytest.fixture(scope="module")
def small_net():
    """`small_net(path, width=32, slopes=None)`: a net written to a file."""
    return write_net


@pytest.fixture(scope="module")
def model(folder):
    return write_net(folder / "net.onnx")


@pytest.fixture(scope="module")
def data(folder):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (160, 16, 16, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images)
    return folder / "images.npz"


@pytest.fixture(scope="module")
def job(model, data):
    """Arguments of a small job, corrected the quick way; Ctrl-C and the command line have the default."""
    quick = {"episodes": 5, "calibration": 24, "correction": "independent"}
    return {"model": model, "data": data, "target": Target.parse("0.5x"), **quick}


@pytest.fixture(scope="module")
def done(job, folder):
    return compress(**job, output=folder / "slim.onnx", run_dir=folder / "run")


def weights_of(model):
    return sum(np.prod(tensor.dims) for tensor in model.graph.initializer)


def taking(milliseconds):
    return Latency(*[milliseconds] * 4, 0.95, (milliseconds,), "thread-cpu", milliseconds, {})


@pytest.fixture(scope="module")
def steady():
    """`steady(patch)`: from then on a net's ratio is its share of the weights, as on a device that is never busy."""

    def share(live, model):
        return float(weights_of(model) / weights_of(live._original))

    def quick(self, plan, model, limit=None):
        ratio = share(self, model)
        return meter.Quick(ratio, 0.99 * ratio, 1.01 * ratio, 1.0, ratio)

    def compared(self, model):
        ratio = share(self, model)
        return Ratio(ratio, 0.99 * ratio, 1.01 * ratio, 0.95, taking(1.0), taking(ratio), 0.0, drifted=False)

    def settle(patch):
        patch.setattr(meter.LiveMeter, "quick", quick)
        patch.setattr(meter.LiveMeter, "_compared", compared)

    return settle
