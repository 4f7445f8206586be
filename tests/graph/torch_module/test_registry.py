"""What is known of operators: by the analysis and here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

from ortrim.errors import InputError, ModelError
from ortrim.graph import to_torch
from ortrim.graph.rules import names as ruled
from ortrim.graph.torch_module import names, operator, registry

REFUSED: dict[str, str] = {}
"""Operators that the analysis has a rule for and torch no counterpart, and why: none."""


def test_every_rule_has_a_counterpart():
    assert set(ruled()) - set(names()) == set(REFUSED)


def test_an_unknown_operator_is_refused_by_name(one_node):
    model = one_node("Snake", [np.ones((2, 3), np.float32)], domain="my.ops")
    model.graph.output[0].type.tensor_type.elem_type = 1
    with pytest.raises(ModelError, match=r"^my\.ops::Snake 'tested': .*operator$") as refusal:
        to_torch(model)
    assert "\n" not in str(refusal.value)
    assert isinstance(refusal.value, InputError)


def test_a_form_that_torch_lacks_is_refused_by_node(one_node):
    x, regions = np.ones((1, 2, 4, 4), np.float32), np.float32([[0, 0, 2, 2]])
    model = one_node("RoiAlign", [x, regions, np.array([0])], opset=16, mode="max")
    with pytest.raises(ModelError, match=r"RoiAlign 'tested': .*mode max"):
        to_torch(model)


def test_a_type_that_torch_lacks_is_refused_by_node(one_node):
    with pytest.raises(ModelError, match=r"^Cast 'tested': tensors of type FLOAT8E5M2 cannot"):
        to_torch(one_node("Cast", [np.ones(3, np.float32)], opset=19, to=helper.TensorProto.FLOAT8E5M2))


@pytest.fixture
def registered(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_OPERATORS", dict(registry._OPERATORS))


@pytest.mark.usefixtures("registered")
def test_users_register_operators(one_node):
    @operator("Snake", domain="my.ops")
    def snake(node):
        power = node.get("power", 2)
        return lambda x, a: x + (a * x).sin() ** power / a

    x, a = np.float32([[1, 2], [3, 4]]), np.float32([0.5, 2])
    model = one_node("Snake", [x, a], constants=(1,), domain="my.ops", power=4)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("o0", 1, (2, 2)))
    found = to_torch(model)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, x + np.sin(a * x) ** 4 / a, rtol=1e-6)


@pytest.mark.usefixtures("registered")
def test_a_later_registration_replaces_an_earlier_one(one_node):
    @operator("Relu")
    def relu(node):
        return lambda x: x * 3

    model = one_node("Relu", [np.float32([-1, 2])])
    assert to_torch(model)(torch.tensor([-1.0, 2.0])).tolist() == [-3, 6]
