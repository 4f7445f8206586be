"""Random graphs of supported operators, each against the oracle.

A recipe is plain data (operator, which tensors, one number), so hypothesis shrinks a failure to a few readable steps;
`Steps` turn it into a graph. Steps that do not fit the tensors at hand become something near that does.
"""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ortrim.graph import analyze, load, slim

FLOAT = onnx.TensorProto.FLOAT


class Steps:
    """One method for every step that a recipe can name; mixed with the `maps` fixture's class."""

    # -- layers -------------------------------------------------------------------------------------------------------
    def conv(self, x, y, n):
        out = self.net.conv(x, n + 2, k=(1, 3)[n % 2], bias=bool(n % 3))
        self.side[out] = self.side[x]
        return out

    def strided(self, x, y, n):
        out = self.net.conv(x, n + 2, stride=2)
        self.side[out] = (self.side[x] + 1) // 2
        return out

    def grouped(self, x, y, n):
        groups = 2 + n % 2
        out = self.net.conv(self.fit(x, groups * (1 + n % 3), self.side[x]), groups * (2 + n % 4), group=groups)
        self.side[out] = self.side[x]
        return out

    def depthwise(self, x, y, n):
        out = self.net.conv(x, self.c(x) * (1 + n % 2), group=self.c(x))
        self.side[out] = self.side[x]
        return out

    def transposed(self, x, y, n):
        group = (1, 2, self.c(x))[n % 3] if self.c(x) % 2 == 0 else 1
        each = 1 + n % 4
        operands = [self.net.weight(self.c(x), each, 3, 3), self.net.weight(each * group)]
        return self.op("ConvTranspose", x, *operands, group=group, channels=each * group, pads=[1] * 4)

    def bn(self, x, y, n):
        return self.net.bn(x)

    def prelu(self, x, y, n):
        return self.op("PRelu", x, self.net.weight(*((self.c(x), 1, 1) if n % 2 else (1, 1, 1))))

    def activation(self, x, y, n):
        kinds = ("Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Elu", "Softplus", "Abs", "Identity", "Dropout")
        return self.op(kinds[n % len(kinds)], x)

    def clip(self, x, y, n):
        if n % 2:
            return self.op("Cast", self.op("Relu", self.op("Cast", x, to=onnx.TensorProto.DOUBLE)), to=1)
        return self.op("Clip", x, self.net.constant(np.float32(0.5)), self.net.constant(np.float32(6)))

    # -- joins --------------------------------------------------------------------------------------------------------
    def residual(self, x, y, n):
        kinds = ("Add", "Mul", "Max", "Sub", "Sum", "Mean")
        return self.op(kinds[n % len(kinds)], x, self.fit(y, self.c(x), self.side[x]))

    def block(self, x, y, n):
        inner = self.op("Relu", self.conv(x, x, n))
        return self.op(("Add", "Max", "Mul")[n % 3], self.conv(inner, inner, self.c(x) - 2), x)

    def branches(self, x, y, n):
        """Two blocks side by side, and nothing else: one of them must stay."""
        left, right = (self.op("Relu", self.conv(x, x, n + more)) for more in (0, 1))
        return self.op(("Add", "Mul")[n % 2], self.conv(left, x, n), self.conv(right, x, n))

    def concat(self, x, y, n):
        parts = [x, self.fit(y, self.c(y), self.side[x]), x][: 2 + n % 2]
        order = parts[::-1] if n % 4 > 1 else parts
        return self.op("Concat", order[0], *order[1:], axis=1, channels=sum(map(self.c, order)))

    def twice(self, x, y, n):
        return self.op("Concat", x, x, axis=1, channels=2 * self.c(x))

    def dense(self, x, y, n):
        for _ in range(1 + n % 2):
            x = self.concat(x, self.conv(self.op("Relu", self.named(self.net.bn(x), x)), x, n), 0)
        return x

    def constant(self, x, y, n):
        shape = [(self.c(x), 1, 1), (1, self.c(x), self.side[x], 1), (self.side[x],), (1, 1, 1, 1)][n % 4]
        return self.op(("Add", "Mul", "Sub")[n % 3], x, self.net.weight(*shape))

    def where(self, x, y, n):
        condition = self.op("Greater", x, self.net.constant(np.float32(0.1)))
        other = self.fit(y, self.c(x), self.side[x])
        return self.op("Where", condition, *((x, other) if n % 2 else (other, x)), channels=self.c(x))

    # -- moving -------------------------------------------------------------------------------------------------------
    def pieces(self, x, y, n):
        """Split in two, the halves treated differently and put together in either order, or gated (GLU)."""
        c = self.c(x)
        if c < 2:
            return self.conv(x, x, n)
        sizes = (c // 2, c - c // 2) if n % 2 else (1, c - 1)
        left, right = self.op("Split", x, self.net.integers(*sizes), outputs=2, axis=1)
        for name, size in zip((left, right), sizes, strict=True):
            self.net.channels[name], self.side[name] = size, self.side[x]
        right = self.op("Sigmoid", right)
        if sizes[0] == sizes[1] and n % 3 == 0:
            return self.op("Mul", left, right)
        if sizes[0] == 1 and n % 3 == 1:
            return self.op("Mul", right, left)
        return self.op("Concat", right, left, axis=1, channels=c) if n % 4 > 1 else self.concat(left, right, 0)

    def sliced(self, x, y, n):
        c, step = self.c(x), (1, 2, -1, -2)[n % 4]
        start, end = (n % 3 % c, c + n) if step > 0 else (c - 1 - n % 2, -999)
        count = len(range(c)[slice(start, end if step > 0 else None, step)])
        if not count:
            return self.conv(x, x, n)
        return self.op("Slice", x, *(self.net.integers(v) for v in (start, end, 1, step)), channels=count)

    def padded(self, x, y, n):
        low, high = n % 3, (n + 1) % 4
        pads = self.net.integers(0, low, 0, 0, 0, high, 0, 0)
        return self.op("Pad", x, pads, self.net.constant(np.float32(n % 2)), channels=self.c(x) + low + high)

    def tile(self, x, y, n):
        return self.op("Tile", x, self.net.integers(1, 2, 1, 1), channels=2 * self.c(x))

    def gather(self, x, y, n):
        picks = self.net.rng.integers(-self.c(x), self.c(x), 1 + n % 8)
        return self.op("Gather", x, self.net.integers(*picks), axis=1, channels=len(picks))

    def shuffle(self, x, y, n):
        groups = 2 + n % 2
        x = self.fit(x, groups * (2 + n % 3), self.side[x])
        c, s = self.c(x), self.side[x]
        split = self.op("Reshape", x, self.shape(x, groups, c // groups, s, s))
        turned = self.op("Transpose", split, perm=[0, 2, 1, 3, 4])
        target = self.shape(x, c, s, s) if n % 2 else self.net.integers(0, -1, s, s)
        return self.op("Reshape", turned, target, channels=c)

    def last(self, x, y, n):
        """To channels last, something there, and back."""
        out = self.op("Transpose", x, perm=[0, 2, 3, 1])
        out = self.op("Add", out, self.net.weight(self.c(x))) if n % 2 else self.op("Relu", out)
        return self.op("Transpose", out, perm=[0, 3, 1, 2])

    def flat(self, x, y, n):
        """Space as one axis and back."""
        c, s = self.c(x), self.side[x]
        out = self.op("Reshape", x, self.net.integers(0, 0, -1))
        return self.op("Reshape", self.op("Tanh", out), self.shape(x, c if n % 2 else -1, s, s))

    def depth(self, x, y, n):
        x = self.fit(x, 4 * (1 + n % 3), min(self.side[x], 8))
        mode = ("DCR", "CRD")[n % 2]
        up = self.op("DepthToSpace", x, blocksize=2, mode=mode, channels=self.c(x) // 4, side=2 * self.side[x])
        if n % 4 < 2:
            return up
        return self.op("SpaceToDepth", up, blocksize=2, channels=self.c(x), side=self.side[x])

    # -- space --------------------------------------------------------------------------------------------------------
    def pool(self, x, y, n):
        kind = ("MaxPool", "AveragePool")[n % 2]
        side = self.side[x] // 2
        return self.op(kind, x, kernel_shape=[2, 2], strides=[2, 2], side=side) if side else self.op("Relu", x)

    def resize(self, x, y, n):
        scales = self.net.constant(np.array([1, 1, 2, 2], np.float32))
        return self.op("Resize", x, "", scales, mode="nearest", side=2 * self.side[x]) if self.side[x] < 9 else x

    def squeeze_excite(self, x, y, n):
        mean = self.reduce("ReduceMean", x, 2, 3) if n % 2 else self.op("GlobalAveragePool", x)
        inner = self.net.relu(self.net.conv(mean, 2 + n % 3, k=1))
        return self.op("Mul", x, self.op("Sigmoid", self.named(self.net.conv(inner, self.c(x), k=1), x)))

    def spatial_gate(self, x, y, n):
        source = self.fit(y, self.c(y), self.side[x])
        gate = self.conv(source, source, -1) if n % 2 else self.reduce("ReduceMean", source, 1, channels=1)
        return self.op("Mul", *((x, gate) if n % 3 else (gate, x)), channels=self.c(x))

    def expand(self, x, y, n):
        mean = self.reduce("ReduceMax", x, 2, 3)
        return self.op("Mul", self.op("Expand", mean, self.shape(x, self.c(x), self.side[x], 1)), x)

    def attention(self, x, y, n):
        """Self-attention over the pixels, with a residual."""
        c, s, size = self.c(x), self.side[x], 2 + n % 4
        tokens = self.op("Transpose", self.op("Reshape", x, self.net.integers(0, 0, -1)), perm=[0, 2, 1])
        q, k, v = (self.op("MatMul", tokens, self.net.weight(c, size)) for _ in range(3))
        scores = self.op("Softmax", self.op("MatMul", q, self.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
        mixed = self.op("MatMul", self.op("MatMul", scores, v), self.net.weight(size, c))
        back = self.op("Reshape", self.op("Transpose", mixed, perm=[0, 2, 1]), self.shape(x, c, s, s), channels=c)
        return self.op("Add", x, back)

    # -- normalisation across channels: not exact ----------------------------------------------------------------------
    def layer_norm(self, x, y, n):
        if n % 3 == 0:  # over the width: the channels are not concerned
            return self.op("LayerNormalization", x, self.net.weight(self.side[x]), axis=-1)
        out = self.op("Transpose", x, perm=[0, 2, 3, 1])
        out = self.op("LayerNormalization", out, self.net.weight(self.c(x)), self.net.weight(self.c(x)), axis=-1)
        return self.op("Transpose", out, perm=[0, 3, 1, 2])

    def group_norm(self, x, y, n):
        """As torch exports it: InstanceNormalization of a reshaped map, then scale and bias."""
        x = self.fit(x, 2 * (1 + n % 4), self.side[x])
        c, s = self.c(x), self.side[x]
        groups = (1, 2, c)[n % 3]
        out = self.op("Reshape", x, self.net.integers(0, groups, -1))
        out = self.op("InstanceNormalization", out, self.net.weight(groups), self.net.weight(groups))
        out = self.op("Reshape", out, self.shape(x, c, s, s))
        return self.op("Add", self.op("Mul", out, self.net.weight(c, 1, 1)), self.net.weight(c, 1, 1))

    def instance_norm(self, x, y, n):
        return self.op("InstanceNormalization", x, self.net.weight(self.c(x)), self.net.weight(self.c(x)))

    def softmax(self, x, y, n):
        return self.op("Softmax", x, axis=(1, -1, 2)[n % 3]) if n % 4 else self.op("LRN", x, size=3)

    # -- outputs ------------------------------------------------------------------------------------------------------
    def output(self, x, kind):
        net, c, s = self.net, self.c(x), self.side[x]
        match kind % 7:
            case 0:
                return net.head(x)
            case 1:
                flat = self.op("Flatten", x)
                return net.op("Gemm", flat, net.weight(c * s * s, 4), net.weight(4))
            case 2:
                flat = self.op("Reshape", self.op("Transpose", x, perm=[0, 2, 3, 1]), self.shape(x, -1))
                return net.op("Softmax", net.op("MatMul", flat, net.weight(c * s * s, 4)), axis=-1)
            case 3:
                mean = self.reduce("ReduceMean", x, 2, 3, keepdims=0)
                return net.op("Add", net.op("MatMul", mean, net.weight(c, 4)), net.weight(4))
            case 4:
                return net.conv(x, 3, k=1)
            case 5:
                pooled = net.op("GlobalAveragePool", net.conv(x, 4, k=1))
                pooled = net.op("Squeeze", *([pooled] if self.batch else [pooled, net.integers(2, 3)]))
                return net.op("MatMul", pooled, net.weight(4, 3))
            case _:
                return self.reduce("ReduceMax", x, 1, keepdims=0)


STEPS = sorted(name for name in vars(Steps) if name[0] != "_" and name != "output")
number = st.integers(0, 11)
steps = st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(0, 5), number)
recipes = st.fixed_dictionaries(
    {
        "steps": st.lists(steps, min_size=2, max_size=9),
        "outputs": st.lists(st.tuples(st.integers(0, 2), number), min_size=1, max_size=3),
        "seed": st.integers(0, 3),
        "opset": st.sampled_from([17, 18, 21]),
        "batch": st.sampled_from([2, 0]),  # 0: not known
    }
)


def build(maps, recipe) -> onnx.ModelProto:
    graph = type("Random", (Steps, maps), {})(recipe["batch"], seed=recipe["seed"], opset=recipe["opset"])
    graph.apply("conv", 0, 0, 4)
    for step in recipe["steps"]:
        graph.apply(*step)
    return graph.net.model(
        *(graph.output(graph.maps[-1 - which % len(graph.maps)], kind) for which, kind in recipe["outputs"])
    )


def check_again(model, removed):
    """Slim a slim model: what is left of a group is a group, and two removals are one.

    The first unit of each stays, and with it the order of groups that one layer makes.
    """
    model = load(model)
    analysis = analyze(model)
    first = {group.name: [group.size - 1] for group in analysis.groups if group.size > 2}
    small = slim(model, first, analysis=analysis)
    again = analyze(small)
    left = {group.name: (group.size - (group.name in first), group.exact) for group in analysis.groups}
    assert {group.name: (group.size, group.exact) for group in again.groups} == left
    second = {group.name: [group.size - 1] for group in again.groups if group.size > 1}
    smaller = removed(small, again, second)
    at_once = slim(model, {name: [*first.get(name, ()), *second.get(name, ())] for name in left}, analysis=analysis)
    weights = [{t.name: t for t in m.graph.initializer if t.data_type == FLOAT} for m in (smaller, at_once)]
    assert weights[0] == weights[1]


bounded = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@settings(bounded, max_examples=90)
@given(recipe=recipes)
def test_every_removal_passes_the_oracle(maps, thorough, recipe):
    thorough(build(maps, recipe))


@settings(bounded, max_examples=100)
@given(recipe=recipes)
def test_a_slim_model_can_be_slimmed_again(maps, removed, recipe):
    # Where channels are reshaped to two axes, the longer one carries the units, and removing some can change which.
    straight = [step for step in recipe["steps"] if step[0] not in ("shuffle", "group_norm")]
    check_again(build(maps, {**recipe, "steps": straight}), removed)
