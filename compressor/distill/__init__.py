"""Recovery by distillation: the original teaches the slim net, on images without labels or with them.

| file | what it is about |
| --- | --- |
| settings, schedule | how long, how fast |
| loader | batches of images, shuffled and changed a little |
| lessons | which tensors are compared, and the loss |
| learner | one step of one process's student, averaging |
| trainer | the loop: marking, ending early |
| checkpoint | going on after a kill |

Importing the trainer imports torch: `distill` is fetched when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .settings import Settings

if TYPE_CHECKING:
    from .trainer import Distilled, Progress, distill, help_to_distill

__all__ = ["Distilled", "Progress", "Settings", "distill", "help_to_distill"]


def __getattr__(name: str) -> object:
    if name in ("Distilled", "Progress", "distill", "help_to_distill"):
        from . import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
