"""What the teacher shows and the student is to match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from ...errors import InputError
from ...graph import misfit
from ...graph.protos import copy_without_weights, tensor_shapes
from ..features import feature_axis
from ..recovery.raw_outputs import raw_outputs
from .settings import Settings

__all__ = ["Lesson", "Lessons"]

_MOST_FEATURES = 6
_FLOOR = 0.01
"""Share of the mean variance that is added to each feature's: none counts more than a hundred times as it would."""


@dataclass(frozen=True)
class Lessons:
    """The tensors that are compared: outputs, or what a Softmax or Sigmoid reads where both nets end in one; others."""

    teacher: tuple[str, ...]
    student: tuple[str, ...]
    outputs: int
    """The first so many are outputs."""

    @classmethod
    def between(cls, teacher: onnx.ModelProto, student: onnx.ModelProto, features: bool = True) -> Lessons:
        """Of two loaded models.

        Raises:
            InputError: inputs or outputs that do not correspond.
        """
        for kind in ("input", "output"):
            ours, theirs = ([value.name for value in getattr(net.graph, kind)] for net in (student, teacher))
            if ours != theirs:
                raise InputError(
                    f"the teacher's {kind}s ({', '.join(theirs)}) are not those of the model ({', '.join(ours)}): "
                    "give the original that it was made from"
                )
            if (found := misfit(student, teacher, kind)) is not None:
                raise InputError(f"the model and its teacher differ ({found}): give the original that it was made from")
        given = [value.name for value in student.graph.output]
        shown, asked = raw_outputs(teacher), raw_outputs(student)
        pairs = [
            (a, b) if (a == name) == (b == name) else (name, name)
            for name, a, b in zip(given, shown, asked, strict=True)
        ]
        inside = _shared(teacher, student, {name for pair in pairs for name in pair}) if features else []
        return cls((*(a for a, _ in pairs), *inside), (*(b for _, b in pairs), *inside), len(pairs))

    def of_teacher(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The teacher, giving the tensors to be shown."""
        return _giving(model, self.teacher)

    def of_student(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The student, giving the tensors to be compared."""
        return _giving(model, self.student)


def _shared(teacher: onnx.ModelProto, student: onnx.ModelProto, taken: set[str]) -> list[str]:
    """A few feature maps of the same name and shape, evenly spread: sums of residual streams, where there are any.

    The last of all is among them.
    """
    shapes, others = tensor_shapes(teacher), tensor_shapes(student)
    kinds = {value.name: value.type.tensor_type.elem_type for value in student.graph.value_info}
    every: list[str] = []
    sums: list[str] = []
    for node in student.graph.node:
        for name in node.output:
            shape = shapes.get(name)
            if name in taken or kinds.get(name) != onnx.TensorProto.FLOAT or shape is None or shape != others.get(name):
                continue
            if len(shape) >= 3 and any(size != 1 for size in shape[2:]):
                every.append(name)
                if node.op_type == "Add":
                    sums.append(name)
    names = [*sums, *(name for name in every[-1:] if name not in sums)] if sums else every
    if len(names) <= _MOST_FEATURES:
        return names
    return [names[round(place * (len(names) - 1) / (_MOST_FEATURES - 1))] for place in range(_MOST_FEATURES)]


def _giving(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy of a loaded model that gives these tensors and computes nothing else."""
    wanted, nodes = set(tensors), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
            wanted.update(name for graph in _subgraphs(node) for inner in graph.node for name in inner.input)
    out = copy_without_weights(model)
    known = {value.name: value for value in (*model.graph.output, *model.graph.value_info)}
    del out.graph.node[:], out.graph.output[:], out.graph.value_info[:]
    out.graph.node.extend(reversed(nodes))
    out.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in wanted)
    out.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in tensors)
    made = {name for node in nodes for name in node.output} - set(tensors)
    out.graph.value_info.extend(value for value in model.graph.value_info if value.name in made)
    return out


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [item.g for item in node.attribute if item.type == onnx.AttributeProto.GRAPH]


def _relative_error(shown: Tensor, said: Tensor, spread: list[float]) -> Tensor:
    """Mean squared error of each feature over its spread; the mean over features."""
    axis = feature_axis(shown.shape[1:])
    if axis is None or len(spread) == 1:
        return functional.mse_loss(said, shown) / spread[0]
    errors = (said - shown).square().movedim(axis + 1, 0).flatten(1).mean(dim=1)
    return (errors / errors.new_tensor(spread)).mean()


@dataclass
class Lesson:
    """The loss. Errors are relative to the spread of what the teacher shows: set `spreads` before it is asked."""

    outputs: int
    settings: Settings
    label_offset: int = 0
    spreads: list[list[float]] = field(default_factory=list)
    """Of each tensor, for each of its features; see `spreads_of`."""

    def loss(self, shown: Sequence[Tensor], said: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        """Of one batch: what the teacher shows, what the student says, and labels (batch,) where there are some."""
        weights = self.settings
        of_outputs = [
            self._output(t.float(), s.float(), spread)
            for t, s, spread in zip(shown[: self.outputs], said, self.spreads, strict=False)
            if spread
        ]
        loss = torch.stack(of_outputs).mean()
        if labels is not None and weights.labels and said[0].ndim == 2:
            known = functional.cross_entropy(said[0].float(), labels + self.label_offset)
            loss = (1 - weights.labels) * loss + weights.labels * known
        inside = [
            _relative_error(t.float(), s.float(), spread)
            for t, s, spread in zip(
                shown[self.outputs :], said[self.outputs :], self.spreads[self.outputs :], strict=True
            )
            if spread
        ]
        return loss + (weights.features or 0.0) * torch.stack(inside).mean() if inside else loss

    def spreads_of(self, shown: Sequence[Tensor]) -> list[list[float]]:
        """Variance of each feature of each tensor of a batch, raised a little; empty for what cannot be matched.

        A detector's confidences vary much less than its offsets and say more (see `features`). What is added, a part of
        the mean, keeps those that one batch does not show from counting without bounds. A feature map that is the same
        everywhere cannot be matched either: nothing tells how much an error of it should count.
        """
        spreads: list[list[float]] = []
        for place, tensor in enumerate(shown):
            if not tensor.is_floating_point():
                spreads.append([])
                continue
            axis, values = feature_axis(tensor.shape[1:]), tensor.float()
            flat = values.reshape(1, -1) if axis is None else values.movedim(axis + 1, 0).flatten(1)
            variances = flat.var(dim=1, correction=0)
            if place >= self.outputs and not variances.any():
                spreads.append([])
                continue
            spreads.append((variances + _FLOOR * variances.mean()).clamp_min(1e-12).tolist())
        return spreads

    def _output(self, shown: Tensor, said: Tensor, spread: list[float]) -> Tensor:
        """Relative squared error; of classes, with the divergence of the softened votes."""
        error = _relative_error(shown, said, spread)
        if shown.ndim != 2 or shown.shape[1] < 2:
            return error
        soft = self.settings.temperature
        log_said, log_shown = ((logits / soft).log_softmax(dim=1) for logits in (said, shown))
        return error + soft**2 * functional.kl_div(log_said, log_shown, reduction="batchmean", log_target=True)
