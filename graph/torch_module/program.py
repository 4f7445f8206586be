"""A graph as a list of steps, and running it.

Values live in numbered slots; a step empties those that nobody reads after it. Shape arithmetic stays in the CPU's
memory, so that a GPU is never waited for: what is computed from sizes and small integer constants alone runs there, and
its results move only where they meet data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .registry import Context, Kernel, TensorList

__all__ = ["NOTHING", "UNUSED", "Program", "Step"]

NOTHING, UNUSED = 0, 1
"""Slots of inputs that are left out, and of outputs that are."""
_FAILURES = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError)


@dataclass(frozen=True)
class Step:
    """One node."""

    label: str
    kernel: Kernel
    context: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    moves: tuple[int, ...]
    """Positions of inputs that lie in the CPU's memory and are wanted where the data are."""
    frees: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """What `Builder` makes of a graph. It holds no tensor that can change, so copies of a module share it."""

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    """Slots of what `run` is given."""
    outputs: tuple[int, ...]
    host_outputs: tuple[int, ...]
    """Positions of outputs that lie in the CPU's memory."""
    template: tuple[Tensor | None, ...]
    """The slots before the first step: operands in the CPU's memory."""

    def __deepcopy__(self, memo: dict[int, object]) -> Program:
        return self

    def run(self, inputs: Sequence[Tensor], context: Context) -> tuple[Tensor | None, ...]:
        """The outputs. An error of torch gets a note that names the node."""
        values = list(self.template)
        for slot, value in zip(self.inputs, inputs, strict=True):
            values[slot] = value
        device, elsewhere = context.device, context.device.type != "cpu"
        step = None
        try:
            for step in self.steps:
                arguments = [values[slot] for slot in step.inputs]
                if elsewhere:
                    for position in step.moves:
                        arguments[position] = arguments[position].to(device, non_blocking=True)
                made = step.kernel(context, *arguments) if step.context else step.kernel(*arguments)
                if isinstance(made, (Tensor, TensorList)):
                    values[step.outputs[0]] = made
                else:
                    for slot, value in zip(step.outputs, made, strict=False):  # what is not wanted is left out
                        values[slot] = value
                for slot in step.frees:
                    values[slot] = None
        except _FAILURES as error:
            error.add_note(f"in {step.label}")
            raise
        outputs = [values[slot] for slot in self.outputs]
        for position in self.host_outputs if elsewhere else ():
            outputs[position] = outputs[position].to(device)
        return tuple(outputs)
