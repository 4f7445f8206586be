"""One process's student, and the step by which it learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import torch
from torch import Tensor

from ...errors import DataError
from ...graph import to_torch
from ..data import Dataset
from ..mixed import MixedPrecision
from ..parallel import World
from .lessons import Lesson, Lessons
from .loader import Images, Loader
from .memory import STEP_MEMORY, saved_bytes
from .settings import Settings
from .teacher import channels_last, teacher_of

__all__ = ["Learner", "follow"]


class Learner:
    """The student with its teacher, images and optimizer; of several processes, all have the same weights."""

    def __init__(
        self,
        teacher: onnx.ModelProto,
        student: onnx.ModelProto,
        images: Dataset,
        settings: Settings,
        *,
        seed: int,
        label_offset: int,
        world: World,
    ) -> None:
        """Arguments and errors as of `distill`."""
        settings = settings.suited_to(len(images), images.labels is not None)
        self._settings, self._world, self._device = settings, world, world.device
        lessons = Lessons.between(teacher, student, bool(settings.features))
        self._student = to_torch(lessons.of_student(student)).to(self._device, memory_format=torch.channels_last)
        self._shared = world.wrap(self._student, all_used=False)
        self._lesson = Lesson(lessons.outputs, settings, label_offset)
        if images.fixed_batch is None or self._student.batch == "any":
            wanted = settings.batch if world.size == 1 else world.batch(settings.batch)
            batch = min(wanted, self._affordable(images))
        else:
            wanted = batch = _fixed_batch(images, world)
        self.reduced = batch < wanted
        """Whether a step holds fewer images than asked for, because more would take more than its memory."""
        # As many images in more steps should move the weights as far (Goyal et al., arXiv 1706.02677, section 2.1).
        self._rate = batch / wanted
        self.loader = Loader(
            world.part(images), batch, augment=settings.augment, blends=settings.blends or 0.0, seed=seed + world.rank
        )
        self.images_a_step = self.loader.batch * world.size
        """Of all processes."""
        learned = {name: p for name, p in self._student.named_parameters() if p.requires_grad}
        self._names, self._parameters = list(learned), list(learned.values())
        self._beginning = [parameter.detach().clone() for parameter in self._parameters]
        self._average = [value.clone() for value in self._beginning]
        self._optimizer = torch.optim.SGD(
            self._parameters, 0.0, settings.momentum, weight_decay=settings.decay, nesterov=True
        )
        # Of quantized weights the steps are what matters: they are trained in float32.
        self._precision = MixedPrecision(self._device, enabled=not self._student.quantized)
        any_batch = images.fixed_batch is None
        self._teacher = teacher_of(lessons.of_teacher(teacher), self._device, any_batch, self._precision)

    def _affordable(self, images: Dataset) -> int:
        """How many images a step of this process can hold."""
        one = Loader(images, 1, augment=False, seed=0).at(0).inputs
        there = {name: channels_last(values.to(self._device)) for name, values in one.items()}
        return max(1, STEP_MEMORY[self._device.type] // max(1, saved_bytes(self._student, there)))

    def learn(self, images: Images, step: int, rate: float) -> float:
        """One step, after `step` others; the loss before it, on this process's images."""
        there = {name: values.to(self._device, non_blocking=True) for name, values in images.inputs.items()}
        labels = None if images.labels is None else images.labels.to(self._device)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * self._rate
        with self._precision():
            shown = self._teacher(there)
            said = self._shared({name: channels_last(values) for name, values in there.items()})
        if not self._lesson.spreads:
            self._lesson.spreads = self._world.share(self._lesson.spreads_of(shown))
        loss = self._lesson.loss(shown, said if isinstance(said, tuple) else (said,), labels)
        self._precision.step(loss, self._optimizer, self._settings.clip)
        memory = 1.0 / max(1.0, self._settings.average * (step + 1))
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self._parameters, memory)
        return float(loss.detach())

    def averaged(self) -> dict[str, Tensor]:
        """The weights averaged over the steps."""
        return dict(zip(self._names, (value.clone() for value in self._average), strict=True))

    def toward(self, taught: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Weights that lie a share (0..1) of the way from those that the student came with to `taught`."""
        return {
            name: torch.lerp(first, taught[name], share)
            for name, first in zip(self._names, self._beginning, strict=True)
        }

    def begin_anew(self) -> None:
        """Give the student the weights that it came with."""
        with torch.no_grad():
            for parameter, average, first in zip(self._parameters, self._average, self._beginning, strict=True):
                parameter.copy_(first)
                average.copy_(first)
        self._optimizer.state.clear()

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {
            "student": dict(self._student.state_dict()),
            "average": self.averaged(),
            "optimizer": self._optimizer.state_dict(),
            "spreads": self._lesson.spreads,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Be as the learner was that gave this state."""
        self._student.load_state_dict(state["student"])
        for mine, given in zip(self._average, state["average"].values(), strict=True):
            mine.copy_(given)
        self._optimizer.load_state_dict(state["optimizer"])
        self._lesson.spreads = state["spreads"]


def follow(learner: Learner, world: World) -> None:
    """Learn as the leader says, until it has no more to do."""
    start = world.share()
    learner.restore(start["state"])
    for step, images in enumerate(learner.loader.after(start["step"]), start["step"]):
        order = world.share()
        if order is None:
            return
        rate, anew = order
        if anew:
            learner.begin_anew()
        learner.learn(images, step, rate)


def _fixed_batch(images: Dataset, world: World) -> int:
    """Images a step of one process where the graph dictates it.

    Raises:
        DataError: fewer images than all processes take.
    """
    fixed = images.fixed_batch
    assert fixed is not None
    if len(images) < fixed * world.size:
        raise DataError(f"the model takes batches of {fixed} images, and there are {len(images)}")
    return fixed
