"""A small builder of ONNX graphs, and the oracle that every graph must pass."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, shape_inference

from ortrim.graph import Removal, analyze, load, slim, verify


class Net:
    """Builds a graph node by node; weights, biases and scales are never zero, or mistakes would hide."""

    def __init__(self, shape=(2, 3, 8, 8), *, opset=17, seed=0, dtype=np.float32):
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.dtype = np.dtype(dtype)
        self.nodes, self.weights = [], []
        self.inputs = [helper.make_tensor_value_info("x", self._type(), shape)]
        self.channels = {"x": shape[1] if len(shape) > 1 else None}

    def _type(self):
        return helper.np_dtype_to_tensor_dtype(self.dtype)

    def weight(self, *shape, low=0.3, high=1.0):
        """An initializer with entries of random sign, bounded away from zero."""
        values = self.rng.uniform(low, high, shape) * self.rng.choice([-1, 1], shape)
        return self.constant(values.astype(self.dtype))

    def constant(self, values, dtype=None):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def integers(self, *values):
        return self.constant(np.array(values, dtype=np.int64))

    def op(self, kind, *inputs, outputs=1, channels=None, **attributes):
        """Add a node; gives the name of its output (or a list of names)."""
        names = [f"t{len(self.nodes)}_{n}" for n in range(outputs)]
        domain = attributes.pop("domain", "")
        self.nodes.append(
            helper.make_node(kind, inputs, names, f"{kind}_{len(self.nodes)}", domain=domain, **attributes)
        )
        for name in names:
            self.channels[name] = channels if channels is not None else self.channels.get(inputs[0])
        return names[0] if outputs == 1 else names

    def conv(self, x, outputs, *, k=3, group=1, stride=1, bias=True):
        inputs = self.channels[x]
        operands = [x, self.weight(outputs, inputs // group, k, k)] + ([self.weight(outputs)] if bias else [])
        pads, strides = [k // 2] * 4, [stride] * 2
        return self.op(
            "Conv", *operands, channels=outputs, kernel_shape=[k, k], pads=pads, strides=strides, group=group
        )

    def bn(self, x):
        c = self.channels[x]
        positive = self.constant(self.rng.uniform(0.5, 1.5, c).astype(self.dtype))
        return self.op("BatchNormalization", x, self.weight(c), self.weight(c), self.weight(c), positive)

    def relu(self, x):
        return self.op("Relu", x)

    def head(self, x, classes=5):
        """Global pool, flatten, classifier."""
        pooled = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.op("Gemm", pooled, self.weight(classes, self.channels[x]), self.weight(classes), transB=1)

    def model(self, *outputs):
        """The model with these outputs: names, or values with a type of their own where nothing can infer it."""
        values = [n if isinstance(n, onnx.ValueInfoProto) else helper.make_empty_tensor_value_info(n) for n in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, values, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(d, 1) for d in sorted({n.domain for n in self.nodes} - {""})]
        return shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=8))


class Maps:
    """Feature maps (batch, channels, side, side) of a graph that grows step by step; the steps are in the subclass.

    A batch of 0 is not known.
    """

    def __init__(self, batch, **more):
        self.net = Net((batch or "n", 3, 8, 8), **more)
        self.batch = batch
        self.maps = ["x"]
        self.side = {"x": 8}

    def apply(self, step, first, second, number):
        """Take a step from two of the maps, counted from the last one."""
        x = self.maps[-1 - first % len(self.maps)]
        y = self.maps[-1 - second % len(self.maps)]
        out = getattr(self, step)(x, y, number)
        self.side.setdefault(out, self.side[x])
        self.maps.append(out)

    def op(self, kind, x, *more, side=None, **attributes):
        out = self.net.op(kind, x, *more, **attributes)
        self.side[out if isinstance(out, str) else out[0]] = side or self.side[x]
        return out

    def c(self, x):
        return self.net.channels[x]

    def shape(self, x, *sizes):
        """A target shape of this batch: where it is not known, computed from the shape of `x`."""
        if self.batch:
            return self.net.integers(self.batch, *sizes)
        size = self.net.op("Gather", self.net.op("Shape", x), self.net.integers(0))
        return self.net.op("Concat", size, self.net.integers(*sizes), axis=0)

    def reduce(self, kind, x, *axes, **attributes):
        if self.net.opset >= 18:
            return self.op(kind, x, self.net.integers(*axes), **attributes)
        return self.op(kind, x, axes=axes, **attributes)

    def fit(self, x, channels, side):
        """`x` itself where it has that shape, else resized and convolved to it."""
        if self.side[x] != side:
            sizes = self.shape(x, self.c(x), side, side)
            x = self.op("Resize", x, "", "", sizes, mode="nearest", side=side)
        return x if self.c(x) == channels else self.conv(x, x, channels - 2)

    def named(self, new, like):
        """`new`, known to be as large as `like`."""
        self.side[new] = self.side[like]
        return new


def sizes(analysis):
    """Units of all groups, ascending."""
    return sorted(group.size for group in analysis.groups)


@pytest.fixture(scope="session")
def net():
    """The builder: `net(shape, opset=..., seed=...)`."""
    return Net


@pytest.fixture(scope="session")
def maps():
    """The class of graphs of feature maps: `maps(batch, seed=..., opset=...)`."""
    return Maps


def check_removal(model, analysis, removal, seed=0):
    """Slim, compare with the original, check; where some groups are not exact, the exact ones by themselves too."""
    exact = {name: units for name, units in removal.items() if analysis.group(name).exact}
    for part in [removal] if len(exact) in (0, len(removal)) else [exact, removal]:
        small = slim(model, part, analysis=analysis)
        verify(model, small, part, analysis=analysis, seed=seed)
        onnx.checker.check_model(small, full_check=True)
    return small


def check_oracle(model, seeds=(0,), each=True):
    """Every group alone (half its units, and all where it is removable) and all together, against the original."""
    model = load(model)
    before = model.SerializeToString()
    analysis = analyze(model)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        half = {g.name: rng.permutation(g.size)[: g.size // 2].tolist() for g in analysis.groups if g.size > 1}
        removals = [half] + ([{name: units} for name, units in half.items()] if each else [])
        whole = {g.name: range(g.size) for g in analysis.groups if g.removable}
        alone = [{name: units} for name, units in whole.items()]
        removals += [whole, {**half, **whole}] + ([*alone, *({**half, **one} for one in alone)] if each else [])
        for removal in removals:
            check_removal(model, analysis, removal, seed)
    assert model.SerializeToString() == before, "slim or verify changed its argument"
    return analysis


@pytest.fixture(scope="session")
def oracle():
    """`oracle(model) -> analysis`, after checking every removal against the original."""
    return check_oracle


@pytest.fixture(scope="session")
def removed():
    """`removed(model, analysis, removal) -> slim model`, after checking that removal against the original."""
    return check_removal


def check_labels(model, analysis):
    """Arrays have the rank of their tensor, and on every axis its size or 1."""
    for value in model.graph.value_info:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for labels in (view[value.name] for view in analysis.views):
            assert labels.ndim == len(shape), value.name
            # On an axis of no fixed size labels repeat with the images.
            assert all(a in (1, b) or not b for a, b in zip(labels.shape, shape, strict=True)), value.name


def subsets(analysis, seed) -> list[Removal]:
    """One unit of every group, all but one, and any number of them."""
    rng = np.random.default_rng(seed)
    groups = [group for group in analysis.groups if group.size > 1]
    counts = ([1, group.size - 1, rng.integers(1, group.size)] for group in groups)
    chosen = [[rng.permutation(g.size)[:n].tolist() for n in c] for g, c in zip(groups, counts, strict=True)]
    return [{g.name: units[i] for g, units in zip(groups, chosen, strict=True)} for i in range(3)]


def check_thoroughly(model):
    """The oracle, the labels, and many subsets of the units."""
    before = model.SerializeToString()
    analysis = check_oracle(model)
    loaded = load(model)
    check_labels(loaded, analysis)
    for removal in subsets(analysis, 0):
        check_removal(loaded, analysis, removal)
    assert model.SerializeToString() == before


@pytest.fixture(scope="session")
def thorough():
    """`thorough(model)`: every group, all together, and many subsets against the original."""
    return check_thoroughly
