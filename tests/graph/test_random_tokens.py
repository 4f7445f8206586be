"""Random graphs of tokens, as transformers, mixers and recurrent nets have them, each against the oracle."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TOKENS, WIDTH = 6, 8


class Tokens:
    """Tensors (batch, tokens, channels) of a graph that grows step by step. A batch of 0 is not known."""

    def __init__(self, net, batch, **more):
        self.net = net((batch or "n", TOKENS, 5), **more)
        self.batch = batch
        self.channels, self.count = {"x": 5}, {"x": TOKENS}
        self.made = ["x"]

    def apply(self, step, first, second, number):
        x, y = (self.made[-1 - place % len(self.made)] for place in (first, second))
        self.made.append(getattr(self, step)(x, y, number))

    def op(self, kind, x, *more, channels=None, count=None, **attributes):
        out = self.net.op(kind, x, *more, **attributes)
        for name in [out] if isinstance(out, str) else out:
            self.channels[name] = channels or self.channels.get(x)
            self.count[name] = count or self.count.get(x)
        return out

    def shape(self, *sizes):
        return self.net.integers(self.batch or -1, *sizes)

    def fit(self, x, y):
        """`y` with the tokens and channels of `x`."""
        if self.count[y] != self.count[x]:
            turned = self.op("Transpose", y, perm=[0, 2, 1])
            turned = self.op("MatMul", turned, self.net.weight(self.count[y], self.count[x]), count=self.count[x])
            y = self.op("Transpose", turned, perm=[0, 2, 1], channels=self.channels[y])
        return y if self.channels[y] == self.channels[x] else self.dense(y, self.channels[x])

    def dense(self, x, outputs, bias=True):
        out = self.op("MatMul", x, self.weight(self.channels[x], outputs), channels=outputs)
        return self.op("Add", out, self.net.weight(outputs)) if bias else out

    def weight(self, rows, columns):
        """Every third one is stored as integers."""
        if len(self.net.weights) % 3:
            return self.net.weight(rows, columns)
        size = columns if len(self.net.weights) % 2 else ()
        values = self.net.constant(self.net.rng.integers(-90, 90, (rows, columns)).astype(np.int8))
        scale = self.net.constant(self.net.rng.uniform(0.005, 0.01, size).astype(np.float32))
        zero = self.net.constant(np.full(size, 3, np.int8))
        return self.net.op("DequantizeLinear", values, scale, zero, axis=1)

    # -- steps --------------------------------------------------------------------------------------------------------
    def linear(self, x, y, n):
        return self.op(("Relu", "Tanh", "Erf")[n % 3], self.dense(x, n + 2, bias=bool(n % 2)))

    def gemm(self, x, y, n):
        flat = self.op("Reshape", x, self.net.integers(-1, self.channels[x]))
        out = self.op("Gemm", flat, self.net.weight(n + 2, self.channels[x]), self.net.weight(n + 2), transB=1)
        return self.op("Reshape", out, self.shape(self.count[x], n + 2), channels=n + 2)

    def residual(self, x, y, n):
        return self.op(("Add", "Mul", "Sub")[n % 3], x, self.fit(x, y))

    def block(self, x, y, n):
        return self.op("Add", x, self.dense(self.op("Relu", self.dense(x, n + 2)), self.channels[x]))

    def gated(self, x, y, n):
        both = self.dense(x, 2 * (n + 2))
        left, right = self.op("Split", both, self.net.integers(n + 2, n + 2), outputs=2, axis=-1, channels=n + 2)
        return self.op("Mul", left, self.op("Sigmoid", right))

    def norm(self, x, y, n):
        c = self.channels[x]
        return self.op("LayerNormalization", x, self.net.weight(c), self.net.weight(c), axis=-1)

    def mixed(self, x, y, n):
        turned = self.op("Transpose", x, perm=[0, 2, 1])
        hidden = self.op("Tanh", self.op("MatMul", turned, self.net.weight(self.count[x], n + 2)))
        back = self.op("MatMul", hidden, self.net.weight(n + 2, self.count[x]))
        return self.op("Add", x, self.op("Transpose", back, perm=[0, 2, 1]))

    def token(self, x, y, n):
        size = self.net.op("Shape", "x", start=0, end=1)
        target = self.net.op("Concat", size, self.net.integers(1, self.channels[x] if n % 2 else 1), axis=0)
        token = self.op("Expand", self.net.weight(1, 1, self.channels[x]), target)
        parts = (token, x) if n % 3 else (x, token)
        return self.op("Concat", *parts, axis=1, channels=self.channels[x], count=self.count[x] + 1)

    def cut(self, x, y, n):
        kept = max(1, self.count[x] - 1 - n % 3)
        bounds = (self.net.integers(v) for v in (self.count[x] - kept, self.count[x], 1))
        return self.op("Slice", x, *bounds, count=kept)

    def attention(self, x, y, n):
        """Fused or separate; heads on an axis of their own, or beside the batch; cosine, by Einsum, over channels."""
        heads, size, t = 1 + n % 3, 2 + n % 2, self.count[x]
        if n % 2:
            fused = self.op("Reshape", self.dense(x, 3 * heads * size), self.shape(t, 3, heads, size))
            fused = self.op("Transpose", fused, perm=[2, 0, 3, 1, 4])
            parts = [self.op("Gather", fused, self.net.constant(np.int64(i)), axis=0) for i in range(3)]
        else:
            made = [self.op("Reshape", self.dense(x, heads * size), self.shape(t, heads, size)) for _ in range(3)]
            parts = [self.op("Transpose", part, perm=[0, 2, 1, 3]) for part in made]
        q, k, v = parts
        if n % 4 == 3:
            q, k = (self.op("LpNormalization", part, axis=-1) for part in (q, k))
        if n % 5 == 4:  # over channels
            scores = self.op("MatMul", self.op("Transpose", q, perm=[0, 1, 3, 2]), k)
            mixed = self.op("MatMul", v, self.op("Softmax", scores, axis=-1))
        elif n % 5 == 3:
            scores = self.op("Softmax", self.op("Einsum", q, k, equation="bhid,bhjd->bhij"), axis=-1)
            mixed = self.op("Einsum", scores, v, equation="bhij,bhjd->bhid")
        else:
            if n % 3 == 2:
                q, k, v = (self.op("Reshape", part, self.net.integers(-1, t, size)) for part in (q, k, v))
            perm = [0, 2, 1] if n % 3 == 2 else [0, 1, 3, 2]
            scores = self.op("Softmax", self.op("MatMul", q, self.op("Transpose", k, perm=perm)), axis=-1)
            mixed = self.op("MatMul", scores, v)
            if n % 3 == 2:
                mixed = self.op("Reshape", mixed, self.net.integers(-1, heads, t, size))
        mixed = self.op("Reshape", self.op("Transpose", mixed, perm=[0, 2, 1, 3]), self.shape(t, heads * size))
        self.channels[mixed], self.count[mixed] = heads * size, t
        return self.op("Add", x, self.dense(mixed, self.channels[x]))

    def pooled_gate(self, x, y, n):
        axes = self.net.integers(1)
        gate = self.dense(self.op("ReduceMean", x, axes), self.channels[x])
        return self.op("Mul", x, self.op("Sigmoid", gate))

    def recurrent(self, x, y, n):
        kind, gates = (("LSTM", 4), ("GRU", 3), ("RNN", 1))[n % 3]
        hidden, c = 2 + n % 4, self.channels[x]
        steps = self.op("Transpose", x, perm=[1, 0, 2])
        weights = (self.net.weight(1, gates * hidden, c), self.net.weight(1, gates * hidden, hidden))
        out = self.op(kind, steps, *weights, self.net.weight(1, 2 * gates * hidden), hidden_size=hidden)
        out = self.op("Squeeze", out, self.net.integers(1))
        return self.op("Transpose", out, perm=[1, 0, 2], channels=hidden, count=self.count[x])

    def quantized(self, x, y, n):
        scale, zero = self.net.constant(np.float32(0.05)), self.net.constant(np.uint8(120))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, scale, zero), scale, zero)

    def windows(self, x, y, n):
        """Tokens in groups that become part of the batch, a layer there, and back."""
        if self.count[x] % 2:
            return self.op("Relu", x)
        half, c = self.count[x] // 2, self.channels[x]
        inside = self.op("Reshape", x, self.net.integers(-1, half, c), count=half)
        inside = self.op("Add", inside, self.net.weight(half, c) if n % 2 else self.net.weight(c))
        return self.op("Reshape", inside, self.shape(2 * half, c), count=2 * half)

    def output(self, x, kind):
        net, c = self.net, self.channels[x]
        match kind % 4:
            case 0:
                return net.op("MatMul", net.op("ReduceMean", x, net.integers(1), keepdims=0), net.weight(c, 3))
            case 1:
                return net.op("MatMul", net.op("Gather", x, net.constant(np.int64(0)), axis=1), net.weight(c, 3))
            case 2:
                flat = net.op("Reshape", x, self.shape(self.count[x] * c))
                return net.op("Gemm", flat, net.weight(self.count[x] * c, 3))
            case _:
                return net.op("MatMul", x, net.weight(c, 2))


STEPS = sorted(set(vars(Tokens)) - {"apply", "op", "shape", "fit", "dense", "weight", "output"})
STEPS = [name for name in STEPS if name[0] != "_"]
number = st.integers(0, 11)
recipes = st.fixed_dictionaries(
    {
        "steps": st.lists(
            st.tuples(st.sampled_from(STEPS), st.integers(0, 2), st.integers(0, 4), number), min_size=2, max_size=7
        ),
        "outputs": st.lists(st.tuples(st.integers(0, 2), number), min_size=1, max_size=2),
        "seed": st.integers(0, 3),
        "batch": st.sampled_from([2, 0]),
    }
)


def build(net, recipe) -> onnx.ModelProto:
    graph = Tokens(net, recipe["batch"], seed=recipe["seed"], opset=18)
    graph.apply("linear", 0, 0, WIDTH)
    for step in recipe["steps"]:
        graph.apply(*step)
    return graph.net.model(
        *(graph.output(graph.made[-1 - which % len(graph.made)], kind) for which, kind in recipe["outputs"])
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, max_examples=80)
@given(recipe=recipes)
def test_every_removal_passes_the_oracle(net, thorough, recipe):
    thorough(build(net, recipe))
