"""Small graphs to prune and refit, written as text."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from ortrim.graph import load

HEADER = '<ir_version: 9, opset_import: ["" : 17]>'
BLOCK = """
    {n}a = Conv<pads=[1,1,1,1]>({x}, {n}w, {n}b)
    {n}r = Relu({n}a)
    {n}c = Conv<pads=[1,1,1,1]>({n}r, {n}v, {n}d)
    {n}s = Add({n}c, {x})
    {n} = Relu({n}s)
"""


@pytest.fixture(scope="session")
def build():
    """Text of a graph and its initializers -> what `load` makes of it.

    An initializer is given as its shape, and gets random values that are never zero, or as a float.
    """

    def make(text, shapes, seed=0, dtype=np.float32):
        rng = np.random.default_rng(seed)
        model = parser.parse_model(f"{HEADER} {text}")
        for name, shape in shapes.items():
            if isinstance(shape, float):
                model.graph.initializer.append(numpy_helper.from_array(np.array(shape, dtype), name))
                continue
            fan = max(1, int(np.prod(shape[1:])))
            values = rng.uniform(0.3, 1.0, shape) * rng.choice([-1.0, 1.0], shape) / np.sqrt(fan)
            values = np.abs(values) + 0.5 if name.startswith("positive") else values
            model.graph.initializer.append(numpy_helper.from_array(values.astype(dtype), name))
        for number, node in enumerate(model.graph.node):
            node.name = f"node{number}"
        return load(model)

    return make


@pytest.fixture(scope="session")
def residual(build):
    """A stem, two residual blocks with 12 inner channels, a classifier: x is N x 3 x 8 x 8, y is N x 5."""
    blocks = BLOCK.format(n="p", x="stem") + BLOCK.format(n="q", x="p")
    text = f"""g (float[N,3,8,8] x) => (float[N,5] y) {{
        first = Conv<pads=[1,1,1,1]>(x, w, b)
        stem = Relu(first)
        {blocks}
        pooled = GlobalAveragePool(q)
        flat = Flatten(pooled)
        y = Gemm<transB=1>(flat, head, heads)
    }}"""
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "head": (5, 8), "heads": (5,)}
    for n in "pq":
        shapes |= {f"{n}w": (12, 8, 3, 3), f"{n}b": (12,), f"{n}v": (8, 12, 3, 3), f"{n}d": (8,)}
    return build(text, shapes)


@pytest.fixture(scope="session")
def images():
    """96 smooth random images, N x 3 x 8 x 8: neighbours are alike, as in photographs."""
    rng = np.random.default_rng(7)
    coarse = rng.standard_normal((96, 3, 4, 4)).repeat(2, axis=2).repeat(2, axis=3)
    return (coarse + 0.3 * rng.standard_normal((96, 3, 8, 8))).astype(np.float32)


@pytest.fixture(scope="session")
def run():
    """Values of some tensors of a model for an input `x`."""

    def go(model, x, *tensors):
        probed = type(model).FromString(model.SerializeToString())
        known = {value.name for value in probed.graph.output}
        probed.graph.output.extend(type(probed.graph.output[0])(name=name) for name in tensors if name not in known)
        session = ort.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(list(tensors), {"x": x})

    return go


@pytest.fixture(scope="session")
def torchrun():
    """`torchrun(*args, cwd=None)`: the command in two processes of torchrun on the CPU, ended."""

    def run(*args, cwd=None):
        launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ortrim.compressor.cli")
        return subprocess.run(
            [sys.executable, *launch, *args],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
