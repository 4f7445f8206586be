"""From a plan to a net that can be measured, and its score."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from ....errors import DeviceError, JobError, ModelError, OrtrimError, VerificationError
from ...precision import Converter, Same
from ...recovery import OutputDeviation, Ranking
from ...score import Scorer
from ..space import Widths

__all__ = ["FAULTS", "Failed", "Maker", "Scored"]

FAULTS = (ModelError, DeviceError, VerificationError)
"""What can be one candidate's own fault, and no reason to end a search."""


@dataclass(frozen=True)
class Scored:
    """A candidate that was built and scored, and is to be measured."""

    model: onnx.ModelProto = field(repr=False)
    """In the precision that runs on the device."""
    score: float
    spent: Mapping[str, float]
    """Seconds, by what they went to."""


@dataclass(frozen=True)
class Failed:
    """A candidate that could not be built or scored."""

    error: OrtrimError


@dataclass(frozen=True)
class Maker:
    """Slims, corrects, converts and scores candidates of one model. Can be sent to another process."""

    ranking: Ranking
    correct: Callable[[Mapping[str, tuple[int, ...]]], onnx.ModelProto]
    """From a removal to the slim net, corrected."""
    scorer: Scorer
    converter: Converter = field(default_factory=Same)
    """Into the precision that runs on the device."""
    deviation: OutputDeviation | None = None
    """Of outputs from the original's, where a search asks for it."""

    def build(self, plan: Widths) -> onnx.ModelProto:
        """The slim net of a plan in fp32, corrected."""
        return self.correct(self.ranking.removal(plan))

    def deployed(self, plan: Widths) -> onnx.ModelProto:
        """The same in the precision that runs on the device."""
        return self.converter.quick(self.build(plan))

    def __call__(self, plan: Widths) -> Scored | Failed:
        """Build and score a plan."""
        try:
            return self._scored(plan)
        except FAULTS as error:
            return Failed(error)
        except np.linalg.LinAlgError as error:
            return Failed(JobError(f"a candidate cannot be refitted: {error}"))

    def error(self, plan: Widths) -> float:
        """How far the outputs of a plan's net are from the original's, in fp32.

        Raises:
            JobError: a layer of it cannot be refitted.
        """
        assert self.deviation is not None, "only a search that damage hints serve asks for it"
        try:
            return self.deviation(self.build(plan))
        except np.linalg.LinAlgError as error:
            narrowed = ", ".join(f"group {group!r} at {width}" for group, width in plan.items())
            raise JobError(f"the net with {narrowed} cannot be refitted: {error}") from error

    def _scored(self, plan: Widths) -> Scored:
        started = time.perf_counter()
        candidate = self.build(plan)
        built = time.perf_counter()
        spent = {"slimming and refitting": built - started}
        if self.converter.precision != "fp32":
            candidate = self.converter.quick(candidate)
            spent[f"conversion to {self.converter.precision}"] = time.perf_counter() - built
        converted = time.perf_counter()
        score = self.scorer.mark(candidate).mark
        spent["scoring"] = time.perf_counter() - converted
        return Scored(candidate, score, spent)
