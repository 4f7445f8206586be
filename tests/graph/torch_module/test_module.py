"""The module as torch sees it: names, copies, devices, types, inputs."""

from __future__ import annotations

import copy
import io
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch._subclasses.fake_tensor import FakeTensorMode

from ortrim.errors import DataError, ModelError
from ortrim.graph import load, to_torch
from ortrim.graph.run import run_as_written
from ortrim.models.digits import MODEL as DIGITS

ODD = [
    *("layer.weight", "layer.bias", "a", "a.b", "a.b.c", ".lead", "trail.", "two..dots", "/model/fc/weight", "0.1"),
    *(
        "_sources",
        "_places",
        "forward",
        "training",
        "x.forward",
        "x.training",
        "initializers",
        "batch",
        "a/b",
        "weight:0",
        "_program",
        " ",
    ),
]


def chain(names):
    """x + w0 + w1 ..., with a table that Gather reads for each so that all of them train."""
    nodes, last = [], "in put"
    for place, name in enumerate(names):
        nodes.append(helper.make_node("Gather", [name, "in"], [f"row{place}"], f"gather{place}"))
        nodes.append(helper.make_node("Add", [last, f"row{place}"], [f"sum{place}"], f"add{place}"))
        last = f"sum{place}"
    weights = [numpy_helper.from_array(np.full((3, 2), place + 1, np.float32), n) for place, n in enumerate(names)]
    inputs = [helper.make_tensor_value_info("in put", 1, ("n", 2)), helper.make_tensor_value_info("in", 7, ("n",))]
    output = helper.make_tensor_value_info(last, 1, ("n", 2))
    graph = helper.make_graph(nodes, "chain", inputs, [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_names_with_dots_are_nested():
    names = ["stem.conv.weight", "stem.conv.bias", "stem.0.weight", "head"]
    assert set(dict(to_torch(chain(names)).named_parameters())) == set(names)


def test_any_name_is_held():
    module = to_torch(chain(ODD))
    assert set(module.initializers) == set(ODD)
    x, places = torch.zeros(2, 2), torch.tensor([0, 2])
    assert module(x, places).tolist() == [[len(ODD) * (len(ODD) + 1) / 2] * 2] * 2
    for place, name in enumerate(ODD):
        assert isinstance(module.initializers[name], torch.nn.Parameter)
        assert (module.initializers[name] == place + 1).all()
    plain = {"layer.weight", "layer.bias", "a.b.c", "/model/fc/weight", "0.1", "weight:0", " "}
    assert plain <= set(dict(module.named_parameters()))
    assert len(list(module.parameters())) == len(ODD)


def test_every_initializer_is_held_with_its_values():
    model = load(DIGITS)
    module = to_torch(model)
    assert set(module.initializers) == {tensor.name for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(module.initializers[tensor.name].detach(), numpy_helper.to_array(tensor))


@pytest.fixture
def image():
    model = load(DIGITS)
    sizes = [dim.dim_value or 3 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return torch.from_numpy(np.random.default_rng(0).standard_normal(sizes).astype(np.float32))


def test_inputs_by_order_and_by_name(image):
    module = to_torch(DIGITS)
    assert torch.equal(module(image), module({module.input_names[0]: image}))
    with pytest.raises(DataError, match="the graph takes 1 inputs, got 2"):
        module(image, image)
    with pytest.raises(DataError, match=r"the graph's inputs are .*; got other"):
        module({"other": image})
    with pytest.raises(DataError, match=r"has the shape .*, got \(3, 1\)"):
        module(image[:, 0, 0, :1])


def test_a_failing_node_is_named(one_node):
    x = np.ones((2, 3), np.float32)
    module = to_torch(one_node("Reshape", [x, np.array([2, 3])]))
    with pytest.raises(RuntimeError) as failure:
        module(torch.from_numpy(x), torch.tensor([4, 5]))
    assert failure.value.__notes__ == ["in Reshape 'tested'"]


def test_a_copy_is_of_its_own(image):
    module = to_torch(DIGITS)
    before = module(image)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    assert torch.equal(module(image), before)
    assert not torch.allclose(twin(image), before)
    assert all(twin.initializers[name] is not value for name, value in module.initializers.items())


def test_a_state_goes_round(image):
    module, other = to_torch(DIGITS), to_torch(DIGITS)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream))
    assert torch.equal(other(image), module(image))


def test_other_precisions(image):
    module = to_torch(DIGITS)
    wanted = module(image)
    exact = copy.deepcopy(module).double()(image.double())
    assert exact.dtype == torch.float64
    assert torch.allclose(exact.float(), wanted, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = module.train()(image)
    coarse.float().sum().backward()
    assert torch.allclose(coarse.float(), module(image), atol=0.1 * float(wanted.abs().max()))
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())


def test_functional_calls(image):
    """What torch.func puts in place of the parameters is what runs."""
    module = to_torch(DIGITS)
    zeros = {name: torch.zeros_like(value) for name, value in module.named_parameters()}
    assert not torch.func.functional_call(module, zeros, (image,)).any()


def sizes_at_run_time():
    """Flatten all but the batch, with a target that is computed; positions counted by a Range; an own scale."""
    make = helper.make_node
    nodes = [
        make("Shape", ["x"], ["shape"]),
        make("Gather", ["shape", "zero"], ["n"]),
        make("Gather", ["shape", "two"], ["h"]),
        make("Unsqueeze", ["n", "axes"], ["n1"]),
        make("Concat", ["n1", "rest"], ["target"], axis=0),
        make("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        make("Cast", ["h"], ["height"], to=1),
        make("Div", ["c", "height"], ["d"]),
        make("Range", ["zero", "h", "one"], ["r"]),
        make("Cast", ["r"], ["rows"], to=1),
        make("Unsqueeze", ["rows", "axis1"], ["column"]),
        make("Add", ["d", "column"], ["e"]),
        make("Reshape", ["e", "target"], ["flat"]),
        make("Shape", ["flat"], ["made"]),
        make("Expand", ["ones", "made"], ["stretched"]),
        make("Add", ["flat", "stretched"], ["out"]),
        make("Identity", ["n"], ["count"]),
    ]
    constants = {"zero": 0, "one": 1, "two": 2, "axes": [0], "axis1": [1], "rest": [-1]}
    weights = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
    weights.append(numpy_helper.from_array(np.random.default_rng(0).random((4, 3, 3, 3), np.float32), "w"))
    weights.append(numpy_helper.from_array(np.ones((1, 1), np.float32), "ones"))
    x = helper.make_tensor_value_info("x", 1, ("n", 3, "h", "w_"))
    outputs = [helper.make_tensor_value_info("out", 1, ("n", "k")), helper.make_tensor_value_info("count", 7, ())]
    graph = helper.make_graph(nodes, "sizes", [x], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_sizes_that_are_computed():
    model = load(sizes_at_run_time())
    module = to_torch(model)
    for shape in ((1, 3, 5, 6), (4, 3, 7, 2)):
        x = np.random.default_rng(1).random(shape, np.float32)
        wanted = run_as_written(model, {"x": x})
        found = module(torch.from_numpy(x))
        np.testing.assert_allclose(found[0].detach(), wanted["out"], rtol=1e-5)
        assert found[1].item() == wanted["count"]


def on_a_pretended_gpu(module, *inputs):
    """Run on tensors without values, on a device that need not be there: mixing devices and waiting for it raise."""
    module = copy.deepcopy(module)
    with FakeTensorMode(allow_non_fake_inputs=True):

        def there(value):
            return torch.empty(value.shape, dtype=value.dtype, device="cuda")

        for part in module.modules():
            for name, value in part._parameters.items():
                part._parameters[name] = torch.nn.Parameter(there(value), value.requires_grad)
            for name, value in part._buffers.items():
                part._buffers[name] = there(value)
        return module(*map(there, inputs))


def test_a_gpu_is_never_waited_for(image):
    found = on_a_pretended_gpu(to_torch(DIGITS), image)
    assert found.device.type == "cuda"


def test_sizes_are_computed_beside_the_gpu():
    """The meta device has no values that sizes could be read from."""
    module = to_torch(sizes_at_run_time()).to("meta")
    flat, count = module(torch.zeros(2, 3, 5, 6, device="meta"))
    assert (flat.device.type, tuple(flat.shape), count.device.type) == ("meta", (2, 120), "meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu(image):
    module = to_torch(DIGITS)
    found = copy.deepcopy(module).to("cuda")(image.to("cuda"))
    assert torch.allclose(found.cpu(), module(image), atol=1e-3)


def test_a_condition_chooses_a_branch(agree):
    def branch(name, *nodes, weights=()):
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_out", 1, ("n", 2))], weights)

    def weight(value):
        return numpy_helper.from_array(np.full((1, 2), value, np.float32), "w")

    then = branch(
        "then",
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Mul", ["y", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "w"], ["then_out"]),
        weights=[weight(5)],
    )
    other = branch("else", helper.make_node("Sub", ["outer", "w"], ["else_out"]), weights=[weight(7)])
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("If", ["c"], ["z"], "choice", then_branch=then, else_branch=other),
        helper.make_node("Add", ["z", "y"], ["out"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, ("n", 2)), helper.make_tensor_value_info("c", 9, ())]
    outer = numpy_helper.from_array(np.float32([[1, 3]]), "outer")
    output = helper.make_tensor_value_info("out", 1, ("n", 2))
    graph = helper.make_graph(nodes, "g", inputs, [output], [outer])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for condition in (True, False):
        agree(model, {"x": np.float32([[-1, 2], [3, 4]]), "c": np.array(condition)})


def test_a_loop_cuts_a_tensor_into_a_list(agree):
    """As exporters write a split of unknown count; and slices that a loop collects."""
    make = helper.make_node
    sequence = helper.make_tensor_sequence_value_info("s_in", 1, None)
    body = helper.make_graph(
        [
            make("Gather", ["bounds", "i"], ["from"], axis=0),
            make("Add", ["i", "one"], ["next"]),
            make("Gather", ["bounds", "next"], ["to"], axis=0),
            make("Unsqueeze", ["from", "zero"], ["start"]),
            make("Unsqueeze", ["to", "zero"], ["end"]),
            make("Slice", ["y", "start", "end", "axis"], ["piece"]),
            make("SequenceInsert", ["s_in", "piece"], ["s_out"]),
            make("ReduceSum", ["piece"], ["sum"], keepdims=0),
            make("Identity", ["again"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", 7, ()),
            helper.make_tensor_value_info("again", 9, ()),
            sequence,
        ],
        [
            helper.make_tensor_value_info("go_on", 9, ()),
            helper.make_tensor_sequence_value_info("s_out", 1, None),
            helper.make_tensor_value_info("sum", 1, ()),
        ],
        [
            numpy_helper.from_array(np.array([0, 1, 4]), "bounds"),
            numpy_helper.from_array(np.array(1), "one"),
            numpy_helper.from_array(np.array([0]), "zero"),
            numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    nodes = [
        make("Relu", ["x"], ["y"]),
        make("SequenceEmpty", [], ["none"]),
        make("Loop", ["rounds", "yes", "none"], ["pieces", "sums"], "loop", body=body),
        make("SequenceErase", ["pieces", "first"], ["shorter"]),
        make("SequenceAt", ["shorter", "first"], ["second"]),
        make("SplitToSequence", ["y", "sizes"], ["parts"], axis=1),
        make("SequenceInsert", ["parts", "y", "first"], ["more"]),
        make("ConcatFromSequence", ["more"], ["twice"], axis=1),
        make("SequenceConstruct", ["second", "second"], ["pair"]),
        make("ConcatFromSequence", ["pair"], ["stacked"], axis=0, new_axis=1),
        make("SequenceLength", ["pieces"], ["length"]),
        make("ConcatFromSequence", ["pieces"], ["whole"], axis=1),
    ]
    weights = [
        numpy_helper.from_array(np.array(2), "rounds"),
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.array(0), "first"),
        numpy_helper.from_array(np.array([3, 1]), "sizes"),
    ]
    x = helper.make_tensor_value_info("x", 1, ("n", 4))
    kinds = {"second": (1, ("n", "k")), "length": (7, ()), "whole": (1, ("n", "m")), "sums": (1, ("r",))}
    kinds |= {"twice": (1, ("n", "t")), "stacked": (1, (2, "n", "k"))}
    outputs = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    graph = helper.make_graph(nodes, "g", [x], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    module = agree(model, {"x": x})
    given = torch.from_numpy(x).requires_grad_()
    module(given)[0].sum().backward()
    assert given.grad.tolist() == [[0, *(1.0 if entry > 0 else 0.0 for entry in row[1:])] for row in x.tolist()]


def test_text_is_refused():
    node = helper.make_node("Identity", ["t"], ["o"], "tested")
    text = helper.make_tensor("t", onnx.TensorProto.STRING, (1,), [b"a"])
    output = helper.make_tensor_value_info("o", onnx.TensorProto.STRING, (1,))
    x = helper.make_tensor_value_info("x", 1, (1,))
    model = helper.make_model(helper.make_graph([node], "g", [x], [output], [text]), ir_version=9)
    with pytest.raises(ModelError):
        to_torch(model)


def test_importing_the_room_does_not_import_torch():
    code = (
        "import sys, ortrim.graph as graph; there = 'torch' in sys.modules;"
        "print(there, callable(graph.to_torch), 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "True", "True"]
