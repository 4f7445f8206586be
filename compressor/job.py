"""What the user asked for, checked as far as that is possible without reading anything."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DeviceSpecError, InputError
from ..runtime import Device
from .data import Preprocessing
from .distill import Settings as Finetuning
from .precision import check_precision
from .recovery import CORRECTIONS
from .score import BLENDS
from .search import agents
from .search.meter import REPLAY
from .target import Target

__all__ = ["LADDER", "PATHS", "Job"]

PATHS = ("model", "data")
"""Settings that a resumed run may spell otherwise: what the files hold is compared."""

LADDER = tuple(round(0.9 * 0.84**step, 3) for step in range(12))
"""Ratios that are searched where the least latency is asked for: from 0.9 to 0.13, each 0.84 of the one before."""


@dataclass(frozen=True)
class Job:
    """The settings of one compression; see `compress` for what they mean."""

    model: Path
    data: Path
    target: Target | None
    """None asks for the least latency that keeps `min_score`."""
    devices: tuple[str, ...]
    agent: str
    episodes: int
    seed: int
    calibration: int
    reward: int
    preprocessing: Preprocessing
    size: tuple[int, int] | None
    keep: tuple[str, ...]
    min_score: float | None
    label_offset: int
    steps: int
    finetune: Finetuning | None
    precision: str
    correction: str
    history: bool
    warm_start: bool
    front: int
    jobs: int
    cluster: str | None

    def check(self) -> None:
        """Refuse what cannot work before any time is spent on it.

        Raises:
            InputError: an unknown agent or precision, a number out of range.
            DeviceSpecError: an unknown device, a replay of what is no run.
        """
        agents.find(self.agent)
        if self.episodes < 1:
            raise InputError(f"--episodes must be at least 1, got {self.episodes}")
        if self.finetune is not None:
            self.finetune.check()
        if self.front < 1:
            raise InputError(f"--front must be at least 1, got {self.front}")
        if self.target is None:
            if self.min_score is None:
                raise InputError("give --latency, or --min-score for the least latency that keeps it")
            if self.steps > 1 or self.front > 1:
                raise InputError("--steps and --front need a --latency to go to")
        if self.front > 1 and self.steps > 1:
            raise InputError("--front and --steps do not go together: a front comes of one search")
        if self.jobs < 1:
            raise InputError(f"--jobs must be at least 1, got {self.jobs}")
        if self.steps < 1:
            raise InputError(f"--steps must be at least 1, got {self.steps}")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise InputError(f"--min-score must be a share between 0 and 1, got {self.min_score:g}")
        if self.correction not in CORRECTIONS:
            raise InputError(f"unknown correction {self.correction!r}; --correction takes {' or '.join(CORRECTIONS)}")
        check_precision(self.precision, "")
        for spec in self.devices:
            if spec.startswith(REPLAY):
                if len(self.devices) > 1:
                    raise DeviceSpecError(f"--device {spec}: a replay has no other device beside it")
                if not Path(spec.removeprefix(REPLAY)).is_dir():
                    raise DeviceSpecError(f"--device {spec}: there is no such run directory")
            else:
                device = Device.parse(spec)
                check_precision(self.precision, "" if device.is_remote else device.name)
        if not self.devices or len(set(self.devices)) < len(self.devices):
            raise InputError("--device names the same device twice" if self.devices else "give a --device")

    def targets(self, baseline_ms: float) -> tuple[float, ...]:
        """The ratios to reach, slowest first: one, those of a front, or a ladder where the least latency is asked for.

        Raises:
            InputError: the original is as fast as the target already.
        """
        if self.target is None:
            return LADDER
        least = self.target.as_ratio(baseline_ms)
        return tuple(least ** (number / self.front) for number in range(1, self.front + 1))

    def settings(self, sha256: str, data: str) -> dict[str, Any]:
        """What decides the course of the run, as JSON values: a resumed run must share it, but for `PATHS`.

        Args:
            sha256: of the model's file.
            data: see `data_identity`.
        """
        return {
            "model": os.fspath(self.model),
            "sha256": sha256,
            "data": os.fspath(self.data),
            "data_identity": data,
            "target": "least" if self.target is None else str(self.target),
            "device": self.devices[0] if len(self.devices) == 1 else list(self.devices),
            "agent": self.agent,
            "episodes": self.episodes,
            "steps": self.steps,
            "seed": self.seed,
            "calibration": self.calibration,
            "reward": self.reward,
            "preprocessing": str(self.preprocessing),
            "size": None if self.size is None else list(self.size),
            "keep": list(self.keep),
            "label_offset": self.label_offset,
            "blends": BLENDS,  # trials do not compare with those of another share
            "min_score": self.min_score,
            "precision": self.precision,
            "correction": self.correction,
            "front": self.front,
            "jobs": self.jobs,
            "finetune": None if self.finetune is None else self.finetune.to_dict(),
        }
