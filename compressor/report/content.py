"""What a report says: plain facts about one run, so that reports can be made without the code that searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from ...runtime import Ratio

__all__ = [
    "ClassFacts",
    "DeviceFacts",
    "DeviceLatencyFacts",
    "FrontFacts",
    "FrozenFacts",
    "GroupFacts",
    "LatencyFacts",
    "ModelFacts",
    "ReportData",
    "ScoreFacts",
    "SearchFacts",
    "SpentFacts",
    "StageFacts",
    "StaircaseFacts",
    "TargetFacts",
    "TrialFacts",
]

_MOST_SAMPLES = 2000


@dataclass(frozen=True)
class ModelFacts:
    """The original or the slim model."""

    path: str
    sha256: str
    parameters: int
    macs: int
    """Multiply-accumulates of one sample."""
    bytes: int
    """Size of the file."""


@dataclass(frozen=True)
class DeviceFacts:
    """Where latency was measured."""

    spec: str
    provider: str
    onnxruntime: str
    cpu: str


@dataclass(frozen=True)
class DeviceLatencyFacts:
    """The final measurement on one of several devices."""

    spec: str
    provider: str
    baseline_ms: float
    slim_ms: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class TargetFacts:
    """What was asked for."""

    ratio: float
    milliseconds: float | None = None
    """The target as given, when it was given in milliseconds."""


@dataclass(frozen=True)
class LatencyFacts:
    """The final measurement: original and slim model interleaved."""

    baseline_ms: float
    slim_ms: float
    ratio: float
    low: float
    high: float
    """The interval of the ratio."""
    confidence: float = 0.95
    """Probability that low..high covers the ratio."""
    baseline_low_ms: float | None = None
    baseline_high_ms: float | None = None
    slim_low_ms: float | None = None
    slim_high_ms: float | None = None
    clock: str = ""
    """`wall`, or `thread-cpu` for the CPU time of the calling thread."""
    drifted: bool = False
    """Whether the baseline changed its speed during the run."""
    baseline_samples_ms: tuple[float, ...] = field(default=(), repr=False)
    slim_samples_ms: tuple[float, ...] = field(default=(), repr=False)

    @classmethod
    def from_ratio(cls, ratio: Ratio) -> Self:
        """The facts of a measured ratio, with at most 2,000 samples of each model, evenly chosen."""
        before, after = ratio.baseline, ratio.candidate
        return cls(
            before.median_ms,
            after.median_ms,
            ratio.value,
            ratio.low,
            ratio.high,
            ratio.confidence,
            before.low_ms,
            before.high_ms,
            after.low_ms,
            after.high_ms,
            before.clock,
            ratio.drifted,
            _thinned(before.samples_ms),
            _thinned(after.samples_ms),
        )


@dataclass(frozen=True)
class ScoreFacts:
    """The score of both models on the same images."""

    kind: str
    """`accuracy` or `agreement`."""
    baseline: float
    slim: float
    images: int
    detail: str = "top-1"
    """What was compared (see `compressor.score`)."""
    fresh: bool = False
    """Whether they took no part in the choice among candidates either."""


@dataclass(frozen=True)
class SearchFacts:
    """How the plan was found."""

    agent: str
    episodes: int
    seconds: float
    best_episode: int | None
    """The trial that won; None when none met the target."""
    agent_seconds: float = 0.0
    """What the agent itself took of `seconds`: all but building, measuring and scoring candidates."""


@dataclass(frozen=True)
class GroupFacts:
    """One group of coupled channels, before and after."""

    name: str
    size: int
    kept: int


@dataclass(frozen=True)
class StaircaseFacts:
    """What a group costs on the device at each width that was measured, everything else whole."""

    group: str
    widths: tuple[int, ...]
    """Units kept, ascending."""
    milliseconds: tuple[float, ...]
    """At each of the widths, of all layers that make, pass on or read the group's channels."""
    steps: tuple[int, ...]
    """The widths that the search chose from: each is cheaper than every wider one."""

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.milliseconds) or not self.widths:
            raise ValueError(f"{self.group}: {len(self.widths)} widths with {len(self.milliseconds)} latencies")


@dataclass(frozen=True)
class TrialFacts:
    """One candidate."""

    episode: int
    score: float
    """Its mark: what candidates are compared by (see `compressor.score`); not the score of the whole."""
    ratio: float


@dataclass(frozen=True)
class SpentFacts:
    """What the search's time went to."""

    name: str
    seconds: float


@dataclass(frozen=True)
class StageFacts:
    """One step of the job, with the score after it where it has one."""

    name: str
    seconds: float
    score: float | None = None


@dataclass(frozen=True)
class ClassFacts:
    """Score on the images of one class."""

    name: str
    images: int
    baseline: float
    slim: float


@dataclass(frozen=True)
class FrontFacts:
    """One net of several that a search gave."""

    target: float
    ratio: float
    low: float
    high: float
    score: float
    parameters: int
    macs: int
    path: str


@dataclass(frozen=True)
class FrozenFacts:
    """A layer that was left alone."""

    layer: str
    reason: str


@dataclass(frozen=True)
class ReportData:
    """Everything that `report.json` holds and `report.html` shows."""

    ortrim: str
    """Release that made the run."""
    created: str
    """Date and time, as people write it."""
    model: ModelFacts
    slim: ModelFacts
    device: DeviceFacts
    target: TargetFacts
    latency: LatencyFacts
    score: ScoreFacts
    search: SearchFacts
    groups: tuple[GroupFacts, ...]
    """In graph order."""
    trials: tuple[TrialFacts, ...] = ()
    stages: tuple[StageFacts, ...] = ()
    spent: tuple[SpentFacts, ...] = ()
    """On candidates, over all sittings of the search."""
    classes: tuple[ClassFacts, ...] = ()
    frozen: tuple[FrozenFacts, ...] = ()
    staircases: tuple[StaircaseFacts, ...] = ()
    """Of the groups that the search could change, in graph order."""
    devices: tuple[DeviceLatencyFacts, ...] = ()
    """Of a run on several devices, each; `latency` is then the worst of them."""
    front: tuple[FrontFacts, ...] = ()
    """All nets of the search, slowest first, where there are several."""
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Lines that a reader should know: few images, drifting latency, odd data."""

    @property
    def met(self) -> bool:
        """Whether the slim model was measured at or below the target."""
        return self.latency.ratio <= self.target.ratio


def _thinned(samples: tuple[float, ...]) -> tuple[float, ...]:
    step = -(-len(samples) // _MOST_SAMPLES) or 1
    return tuple(float(f"{sample:.5g}") for sample in samples[::step])
