"""Subgraphs: one of two (If), or one again and again (Loop)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..node import Node
from ..registry import Context, Kernel, operator


@operator("If", host=(0,), context=True)
def if_(node: Node) -> Kernel:
    """The inputs after the condition are what the branches read from outside, as `node.branches` orders it."""
    branches = node.branches

    def run(context: Context, condition: Tensor, *captured: Tensor) -> tuple[Tensor | None, ...]:
        branch = branches["then_branch" if bool(condition.item()) else "else_branch"]
        return branch.program.run([captured[place] for place in branch.captured], context)

    return run


@operator("Loop", host=(0, 1), context=True)
def loop(node: Node) -> Kernel:
    """As often as the first input says, while the condition holds: the carried values, then one slice a round."""
    body, carried = node.branches["body"], max(len(node.proto.input) - 2, 0)

    def run(
        context: Context, count: Tensor | None, condition: Tensor | None, *inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        state, outside = list(inputs[:carried]), [inputs[carried + place] for place in body.captured]
        more = condition is None or bool(condition.item())
        most, rounds = None if count is None else int(count.item()), 0
        slices: list[list[Tensor]] = [[] for _ in range(len(body.program.outputs) - 1 - carried)]
        while more and (most is None or rounds < most):
            now = torch.tensor(rounds), torch.tensor(True)
            again, *found = body.program.run([*now, *state, *outside], context)
            state, more, rounds = found[:carried], bool(again.item()), rounds + 1
            for kept, piece in zip(slices, found[carried:], strict=True):
                kept.append(piece)
        if not all(slices):
            raise RuntimeError("a Loop without any round gives slices of a shape that is not known")
        return (*state, *(torch.stack(kept) for kept in slices))

    return run
