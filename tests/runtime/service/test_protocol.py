from __future__ import annotations

import json
import math

import pytest

from ortrim.runtime import LayerShape
from ortrim.runtime.service.protocol import BadTaskError, Task

_A, _B = "a" * 64, "b" * 64
_CONV = LayerShape("Conv", 16, 16, (12, 12), kernel=(3, 3))
_LAYER = json.loads(json.dumps(_CONV.to_dict()))


@pytest.mark.parametrize(
    "task",
    [
        Task("measure", (_A,), seconds=2.5, shapes={"x": (1, 3, 8, 8)}),
        Task("ratios", (_A, _B), inputs=_B, known_ms=1.5, keep=3, rounds=2, block_ms=8.0),
        Task("layers", layers=(_CONV,)),
        Task("nodes", (_A,), runs=1, seed=7),
    ],
)
def test_tasks_come_back(task):
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([], "an object"),
        ({"kind": "measure", "models": [_A], "more": 1}, "an object"),
        ({"kind": "exec", "models": [_A]}, "kind"),
        ({"kind": ["measure"], "models": [_A]}, "kind"),
        ({"kind": "measure"}, "models"),
        ({"kind": "measure", "models": [_A, _B]}, "models"),
        ({"kind": "measure", "models": ["../../etc/passwd"]}, "models"),
        ({"kind": "measure", "models": [_A + "\n"]}, "models"),
        ({"kind": "measure", "models": [_A.upper()]}, "models"),
        ({"kind": "measure", "models": _A}, "models"),
        ({"kind": "compare", "models": [_A] * 65}, "models"),
        ({"kind": "measure", "models": [_A], "inputs": "/dev/zero"}, "inputs"),
        ({"kind": "measure", "models": [_A], "shapes": {"x": [0]}}, "shape"),
        ({"kind": "measure", "models": [_A], "shapes": {"x": [2**31] * 9}}, "shape"),
        ({"kind": "measure", "models": [_A], "shapes": {"x": [1.5]}}, "shape"),
        ({"kind": "measure", "models": [_A], "shapes": {"x": "1x3"}}, "shape"),
        ({"kind": "measure", "models": [_A], "seconds": math.inf}, "seconds"),
        ({"kind": "measure", "models": [_A], "seconds": math.nan}, "seconds"),
        ({"kind": "measure", "models": [_A], "seconds": "3"}, "seconds"),
        ({"kind": "measure", "models": [_A], "seconds": True}, "seconds"),
        ({"kind": "measure", "models": [_A], "runs": 10**9}, "runs"),
        ({"kind": "measure", "models": [_A], "seed": 1.0}, "seed"),
        ({"kind": "ratios", "models": [_A], "known_ms": "fast"}, "known_ms"),
        ({"kind": "layers"}, "layers"),
        ({"kind": "measure", "models": [_A], "layers": [_LAYER]}, "layers"),
        ({"kind": "layers", "layers": [{"op": "Conv"}]}, "no layer shape"),
        ({"kind": "layers", "layers": [{**_LAYER, "c_in": 0}]}, "sizes"),
        ({"kind": "layers", "layers": [{**_LAYER, "c_in": 2**31, "c_out": 2**31}]}, "no machine"),
        ({"kind": "layers", "layers": [{**_LAYER, "spatial": [2**31] * 4}]}, "spatial"),
        ({"kind": "layers", "layers": [{**_LAYER, "op": ["Conv"]}]}, "op"),
        ({"kind": "layers", "layers": [{**_LAYER, "spatial": 3}]}, "object of type 'int'"),
        ({"kind": "layers", "layers": [{**_LAYER, "kernel": [3, 3, 3]}]}, "kernel"),
    ],
)
def test_other_messages_are_refused(fields, reason):
    with pytest.raises(BadTaskError, match=reason):
        Task.from_dict(fields)
