"""The nets of `search.py`: what all agents and seeds of one net share is worked out once and kept on disk."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from common import SHARED, need

from ortrim.compressor.cache import layer_cache
from ortrim.compressor.data import Dataset, InputSpec, Preprocessing, load_data
from ortrim.compressor.data.split import spread_order
from ortrim.compressor.recovery import (
    Alone,
    Corrector,
    Moments,
    OutputDeviation,
    Ranking,
    gather,
    rank,
    repaired_damage,
    samples_for,
)
from ortrim.compressor.score import Scorer
from ortrim.compressor.search.agents import create
from ortrim.compressor.search.candidates import build_space
from ortrim.compressor.search.prediction import Prediction
from ortrim.compressor.search.space import Space, Widths
from ortrim.graph import ChannelAnalysis, analyze, load, macs, slim
from ortrim.runtime import Comparator, Device, LatencyTable, compare, layer_shapes

__all__ = ["NETS", "Bench", "Net"]

DEVICE = "cpu:threads=1"
CALIBRATION, REWARD, UNSEEN = 768, 500, 2000
FITTED_PLANS = 12
"""Random plans that are measured once, to fit the line from the table's ratio to the measured one."""
SECONDS = 0.8
"""For measuring one candidate (`--measure`, and the fitted plans)."""
FINAL_SECONDS = 4.0
HELD, POINTS = 128, 2
"""Images and widths of each group for the damage hints."""


@dataclass(frozen=True)
class Net:
    """A model, its images and the target that is customary for it."""

    model: str
    data: str
    """`cifar`: the training images of CIFAR-10; else a folder under the shared data."""
    preprocessing: Preprocessing
    target: float
    calibration: int = CALIBRATION
    reward: int = REWARD
    unseen: int = UNSEEN
    correction: str = "sequential"
    """One of `CORRECTIONS`; layers alone where the other would not let a hundred evaluations end in an evening."""


_CIFAR = Preprocessing.parse(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
NETS = {
    "resnet20": Net("cifar10/akamaster_resnet20", "cifar", _CIFAR, 0.7),
    "resnet56": Net("cifar10/akamaster_resnet56", "cifar", _CIFAR, 0.7),
    # There are 500 images without labels: what is not needed for the correction scores, and none is left over.
    "mobilenetv2": Net(
        "imagenet/mobilenet_v2_1.0_224",
        "imagenet/calibration",
        Preprocessing.parse(scale=1 / 128, offset=-1.0),
        0.8,
        400,
        100,
        0,
        "independent",
    ),
}


@dataclass(frozen=True)
class Prepared:
    """What is worked out once for a net, kept as a pickle."""

    moments: Moments
    ranking: Ranking
    table: dict
    line: tuple[float, float]
    """Measured ratio = line[0] + line[1] * the table's ratio."""
    error: float
    """Standard deviation of the measured ratios around that line."""
    damage: dict
    """Hints: what each group is worth after the correction."""


class Bench:
    """Evaluates plans of one net: score after the cheap correction, latency by the corrected table or measured.

    Args:
        cifar: folder with `train.npz`.
        work: where what is prepared is kept.
        threads: of scoring.
    """

    def __init__(self, name: str, cifar: Path, work: Path, threads: int = 1) -> None:
        self.name, self.net, self.threads = name, NETS[name], threads
        self.original = load(need(SHARED / "models" / f"{self.net.model}.onnx"))
        self.analysis: ChannelAnalysis = analyze(self.original)
        self.parts = self._parts(cifar)
        self.device = Device.parse(DEVICE)
        path = work / f"{name}.pickle"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(self._prepare()))
        self.prepared: Prepared = pickle.loads(path.read_bytes())
        # Not a replay: layers that read two groups have widths that the scans of single groups did not meet.
        known = LatencyTable(self.device, layer_cache(), known=self.prepared.table)
        self.shapes = layer_shapes(self.original, self.sample_shapes)
        self.prediction = Prediction(self.analysis, self.shapes, known)
        self.correct = self._corrector(self.prepared.moments)
        self.scorer = Scorer.build(self.original, self.parts[1], Device("cpu", threads=threads), blends=True)

    def _parts(self, cifar: Path) -> tuple[Dataset, Dataset, Dataset | None]:
        """Images for the correction, for the score, and others that no search sees. Labels are not looked at."""
        net = self.net
        path = cifar / "train.npz" if net.data == "cifar" else SHARED / net.data
        wanted = net.calibration + net.reward + net.unseen
        dataset = load_data(need(path), InputSpec.from_model(self.original), net.preprocessing, wanted).unlabelled()
        order = spread_order(len(dataset), None, 0)
        ends = np.cumsum([net.calibration, net.reward, net.unseen])
        calibration, reward, unseen = (np.sort(part) for part in np.split(order[: ends[-1]], ends[:-1]))
        return (
            dataset.subset(calibration),
            dataset.subset(reward),
            dataset.subset(unseen) if len(unseen) else None,
        )

    @cached_property
    def sample_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array[:1].shape for name, array in self.parts[0].subset(np.arange(1)).feeds().items()}

    def _prepare(self) -> Prepared:
        moments = gather(self.original, self.analysis, self.parts[0].feeds())
        ranking = rank(self.original, self.analysis, moments=moments)
        table = LatencyTable(self.device, layer_cache())
        prediction = Prediction(self.analysis, layer_shapes(self.original, self.sample_shapes), table)
        pairs = []
        sample = {name: array[:1] for name, array in self.parts[0].subset(np.arange(1)).feeds().items()}
        with Comparator(self.original, self.device, inputs=sample, seconds=SECONDS) as comparator:
            for n in range(FITTED_PLANS):
                target = self.net.target + (n % 3 - 1) * 0.07
                space = build_space(self.analysis, self.analysis.groups, prediction, ranking, target)
                plan = create("random", space, 1, n).ask()
                model = slim(self.original, ranking.removal(plan), analysis=self.analysis)
                pairs.append((prediction.ratio(plan), comparator.ratio(model).value))
        predicted, measured = np.array(pairs).T
        slope, start = np.polyfit(predicted, measured, 1)
        error = float(np.std(measured - start - slope * predicted, ddof=2))
        space = build_space(self.analysis, self.analysis.groups, prediction, ranking, self.net.target)
        held = self.parts[1].feeds()
        correct = self._corrector(moments)
        error_of = OutputDeviation(self.original, {name: array[:HELD] for name, array in held.items()})
        widths = {choice.group: choice.widths for choice in space.choices}
        damage = repaired_damage(
            lambda places: [error_of(correct(ranking.removal(dict([place])))) for place in places],
            ranking,
            widths,
            points=POINTS,
        )
        return Prepared(moments, ranking, table.dump(), (float(start), float(slope)), error, damage)

    def _corrector(self, moments: Moments) -> Alone | Corrector:
        """What makes candidates."""
        if self.net.correction == "independent":
            return Alone(self.original, self.analysis, moments)
        samples = samples_for(macs(self.original))
        images = self.parts[0].feeds()
        return Corrector(self.original, self.analysis, moments, images, samples=samples, threads=self.threads)

    def space(self, target: float) -> Space:
        """What the agents get: the table without the line, as in a real search."""
        groups, ranking = self.analysis.groups, self.prepared.ranking
        space = build_space(self.analysis, groups, self.prediction, ranking, target, model=self.original)
        return replace(space, damage=self.prepared.damage)

    def build(self, plan: Widths) -> onnx.ModelProto:
        """The slim net after the correction that candidates get."""
        return self.correct(self.prepared.ranking.removal(plan))

    def expected_ratio(self, plan: Widths) -> float:
        """The table's ratio on the line that measured plans gave: the same each time it is asked."""
        start, slope = self.prepared.line
        return start + slope * self.prediction.ratio(plan)

    def measured_ratio(self, model: onnx.ModelProto, seconds: float = SECONDS) -> float:
        """By the device, interleaved with the original."""
        sample = {name: array[:1] for name, array in self.parts[0].subset(np.arange(1)).feeds().items()}
        return compare(self.original, model, self.device, inputs=sample, seconds=seconds).value

    def unseen_score(self, model: onnx.ModelProto) -> float | None:
        """Agreement on images that neither the correction nor the search saw; None where there are none."""
        if self.parts[2] is None:
            return None
        return Scorer.build(self.original, self.parts[2], Device("cpu", threads=self.threads)).score(model).value
