"""How to fine-tune."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ...errors import InputError

__all__ = ["Settings"]

FEW = 2000
"""Images below which a student learns what holds for them alone, and is shown more of each."""


@dataclass(frozen=True)
class Settings:
    """Length and hyper-parameters of a distillation. Exactly one of `epochs` and `minutes` is given.

    Batch and temperature were found on held-out training images with pruned CIFAR-10 ResNets (`benchmarks/distill.py`).
    """

    epochs: float | None = None
    """Passes over the training images; parts of one count."""
    minutes: float | None = None
    """Wall time, evaluations included: the schedule ends when the time does."""
    rate: float | None = None
    """Largest learning rate, of SGD with Nesterov momentum; less in proportion where a step holds fewer images. None
    is one for the number of steps (`schedule.peak_rate`)."""
    momentum: float = 0.9
    decay: float = 1e-4
    """Weight decay."""
    batch: int = 128
    """Images a step, where the model's batch is free; fewer where more would not fit into its memory (`memory`)."""
    warm_up: float = 0.05
    """Share of the schedule in which the rate rises from 0; after it, it falls along half a cosine."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    average: float = 0.05
    """Memory of the moving average of the weights, as a share of the steps so far."""
    temperature: float = 4.0
    """Of the softened classes that are compared (Hinton et al., 2015)."""
    features: float | None = None
    """Weight of the error inside, at tensors that have the same name and shape in both nets. None is 1 for few images,
    each of which says more so, and otherwise 0: of 39,000, a pruned ResNet-56 came to 93.9 % agreement without and 93.0
    % with it in the same 90 seconds."""
    blends: float | None = None
    """Share of the images that have another laid over them, where there are no labels. None is a half for few images,
    and otherwise 0."""
    labels: float = 0.1
    """Weight of cross-entropy with labels, where there are labels, beside (1 - labels) for the teacher."""
    augment: bool = True
    """Shift images by up to an eighth, mirror and blend them: the teacher sees what the student sees."""
    evaluations: int = 12
    """How often the held-out images are scored."""
    patience: int = 4
    """Evaluations without a better score, in the second half of the schedule, after which it ends."""

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            InputError: no length or two, or a number out of range.
        """
        if (self.epochs is None) == (self.minutes is None):
            raise InputError("say how long to fine-tune: either --epochs or --minutes")
        for name, value in (("epochs", self.epochs), ("minutes", self.minutes)):
            if value is not None and not 0 < value < 1e6:
                raise InputError(f"fine-tuning takes a positive number of {name}, got {value:g}")
        if self.rate is not None and not self.rate > 0:
            raise InputError(f"the learning rate should be above 0, got {self.rate:g}")
        if self.batch < 1:
            raise InputError(f"a batch has at least one image, got {self.batch}")
        if not 0 <= self.labels <= 1:
            raise InputError(f"the weight of labels lies between 0 and 1, got {self.labels:g}")

    def suited_to(self, images: int, labelled: bool) -> Settings:
        """These, with what is left open set for so many images."""
        few = images < FEW
        features = float(few) if self.features is None else self.features
        blends = 0.5 * few if self.blends is None else self.blends
        return replace(self, features=features, blends=0.0 if labelled else blends)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)
