"""Attention as one operator (since operator set 23): two products, with heads on an axis of their own or in a row."""

from __future__ import annotations

import numpy as np
import onnx

from ..edit import Edit
from ..labels import collapse, varying
from ..protos import attribute
from ..walk import Walk
from .contraction import Factor, contract
from .elementwise import meet
from .registry import rule

_MASK, _PAST = 3, (4, 5)
"""Inputs: what may be seen of each other; keys and values of steps before."""
_COUNTS = ("q_num_heads", "kv_num_heads", "kv_num_heads")
"""Attributes that count the heads of query, key and value where they lie in a row."""


def fix_attention(edit: Edit, node: onnx.NodeProto) -> None:
    """The number of heads, where it is an attribute; and the scale, which would follow the channels of a head."""
    query = edit.shape(node.input[0])
    heads = attribute(node, "q_num_heads", 0)
    size = query[-1] // heads if heads else query[-1]
    left = edit.count(node.input[0], len(query) - 1)
    for name, key in zip(node.input[:2], _COUNTS[:2], strict=True):
        before, kept = attribute(node, key, 0), edit.kept(name, len(query) - 1)
        if before and kept is not None:
            after = len(np.unique(kept // (edit.shape(name)[-1] // before)))
            edit.set_attribute(node, key, after)
            left = left // after if key == "q_num_heads" else left
        elif key == "q_num_heads" and before:
            left = size
    if left != size and attribute(node, "scale") is None:
        edit.set_attribute(node, "scale", float(1 / np.sqrt(size)))


@rule("Attention", fix=fix_attention, repeats=True)
def attention(walk: Walk, node: onnx.NodeProto) -> None:
    """softmax(scale Q K') V: heads go as a whole, or the same channels of every head."""
    extra = [name for position, name in enumerate(node.input) if position in _PAST and name]
    if extra or any(walk.readers(name) or walk.read_outside(name) for name in node.output[1:] if name):
        walk.give_up(node, f"Attention {node.name!r} takes or gives keys and values of other steps")
        return
    q, k, v = (_heads(walk, node, name, key) for name, key in zip(node.input[:3], _COUNTS, strict=True))
    count = q.shape[1]
    k, v = (_for_each(side, count) for side in (k, v))
    turned = Factor(k.labels.transpose(0, 1, 3, 2), (*k.shape[:2], k.shape[3], k.shape[2]))
    scores = contract(walk, node, q, turned)
    shape = (q.shape[0], count, q.shape[2], k.shape[2])
    mask = node.input[_MASK] if len(node.input) > _MASK else ""
    if mask:
        scores = _masked(walk, node, mask, Factor(scores, shape))
    made = contract(walk, node, Factor(scores, shape), v)
    if len(walk.shape(node.output[0])) == 3:
        made = _in_a_row(made, count, v.shape[3])
    walk.write(node.output[0], walk.atoms.find(made))


def _heads(walk: Walk, node: onnx.NodeProto, name: str, key: str) -> Factor:
    """Labels and sizes as (batch, heads, tokens, channels of a head)."""
    labels, shape = walk.labels(name), walk.shape(name)
    if labels.ndim == 4:
        return Factor(labels, shape)
    heads = attribute(node, key)
    size = shape[2] // heads
    row = (heads, size) if 2 in varying(labels) else (1, 1)
    labels = labels.reshape(*labels.shape[:2], *row)
    return Factor(labels.transpose(0, 2, 1, 3), (shape[0], heads, shape[1], size))


def _for_each(side: Factor, count: int) -> Factor:
    """Keys and values that several heads of the query share, once for each."""
    times = count // side.shape[1]
    if times == 1:
        return side
    labels = np.repeat(side.labels, times, axis=1) if side.labels.shape[1] > 1 else side.labels
    return Factor(labels, (side.shape[0], count, *side.shape[2:]))


def _masked(walk: Walk, node: onnx.NodeProto, mask: str, scores: Factor) -> np.ndarray:
    """A mask with an axis of heads loses those that go."""
    shape = walk.shape(mask)
    if walk.is_constant(mask):
        lead = 4 - len(shape)
        tail = collapse(scores.labels, range(lead, 4)).reshape(scores.labels.shape[lead:])
        walk.follow_elementwise(node, mask, collapse(tail, [axis for axis, size in enumerate(shape) if size != 1]))
        return scores.labels
    labels = walk.labels(mask)
    missing = (1,) * (4 - labels.ndim)
    return meet(walk, node, (scores.labels, scores.shape), (labels.reshape(missing + labels.shape), missing + shape))[0]


def _in_a_row(labels: np.ndarray, heads: int, size: int) -> np.ndarray:
    """(batch, heads, tokens, channels) as (batch, tokens, heads * channels)."""
    labels = labels.transpose(0, 2, 1, 3)
    if not {2, 3} & set(varying(labels)):
        return labels.reshape(*labels.shape[:2], -1)[..., :1]
    return np.broadcast_to(labels, (*labels.shape[:2], heads, size)).reshape(*labels.shape[:2], heads * size)
