"""What the benchmark scripts share: where the data lie, the conditions of a run, and storing results."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import wraps
from pathlib import Path
from typing import Any

import click
import onnxruntime

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "data"
RESULTS = HERE / "results"
WORK = Path("runs") / "benchmarks"


def need(path: Path) -> Path:
    """The path, if it is there: the models and images are not part of the repository."""
    if not path.exists():
        sys.exit(f"{path} is missing: this benchmark needs models and images that are not part of the repository")
    return path


def photographs(count: int) -> Path:
    """A folder with some of the calibration images."""
    folder = WORK / f"images{count}"
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(need(SHARED / "imagenet" / "calibration").iterdir())[:count]:
        shutil.copy(file, folder)
    return folder


def conditions() -> dict[str, str]:
    """Date, machine and versions, as every table of results states them."""
    from ortrim.runtime import Device

    described = Device.parse("cpu:threads=1").describe()
    return {
        "date": date.today().isoformat(),
        "cpu": str(described["cpu"]),
        "cores": str(__import__("os").cpu_count()),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def ortrim(*arguments: str | Path) -> dict[str, Any]:
    """Run a command of ortrim with `--json`; its result with the wall seconds it took."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "ortrim.compressor.cli", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        return {"failed": done.returncode, "wall_seconds": seconds}
    return {**json.loads(done.stdout), "wall_seconds": seconds}


def compress_on_photographs(
    net: str,
    pixels: Sequence[str],
    run: Path,
    *,
    latency: str,
    episodes: int,
    count: int,
    calibration: int,
    seed: int,
    recovery: Recovery,
    jobs: int = 1,
) -> dict[str, Any]:
    """`compress` one of the third-party models to `run / out.onnx`, on some of the calibration images."""
    return ortrim(
        *("compress", need(SHARED / "models" / "third_party" / f"{net}.onnx"), "--data", photographs(count)),
        *("--latency", latency, "-o", run / "out.onnx", "--run-dir", run / "run", "--episodes", str(episodes)),
        *("--calibration", str(calibration), "--seed", str(seed), "--force", "--no-history"),
        *("--jobs", str(jobs), *recovery.flags, *pixels),
    )


def recovery_options(function: Callable[..., None]) -> Callable[..., None]:
    """`--steps`, `--finetune-minutes` and `--precision` of `compress`; the script is called with `recovery`."""

    @click.option("--steps", default=1, help="searches on the way to the target")
    @click.option("--finetune-minutes", type=float, default=0.0, help="of distillation, without labels")
    @click.option("--precision", default="fp32")
    @wraps(function)
    def with_recovery(
        *,
        steps: int,
        finetune_minutes: float,
        precision: str,
        **others: Any,  # noqa: ANN401 (the script's own options)
    ) -> None:
        function(recovery=Recovery(steps, finetune_minutes, precision), **others)

    return with_recovery


@dataclass(frozen=True)
class Recovery:
    """How a winner is recovered, beside the refit."""

    steps: int
    minutes: float
    precision: str

    @property
    def flags(self) -> tuple[str, ...]:
        """For `compress`."""
        tuning = ("--finetune-minutes", f"{self.minutes:g}") if self.minutes else ()
        return ("--steps", str(self.steps), "--precision", self.precision, *tuning)

    @property
    def name(self) -> str:
        """For file names; empty where it is the default."""
        parts = [
            f"_{self.steps}_steps" if self.steps > 1 else "",
            f"_{self.minutes:g}_min" if self.minutes else "",
            f"_{self.precision}" if self.precision != "fp32" else "",
        ]
        return "".join(parts)


def store(name: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows with their conditions, and print them as a table."""
    RESULTS.mkdir(exist_ok=True)
    content = json.dumps({"conditions": conditions(), "rows": rows}, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(content, encoding="utf-8")
    # Curves are for pictures.
    keys = list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, list)))
    print("| " + " | ".join(keys) + " |")
    print("| " + " | ".join("---" for _ in keys) + " |")
    for row in rows:
        print("| " + " | ".join(_shown(row.get(key, "")) for key in keys) + " |")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def of_jobs(jobs: int) -> str:
    """What the name of a run says of `--jobs`."""
    return f"_{jobs}_jobs" if jobs > 1 else ""


def outcome(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of a `compress --json` result that the tables show."""
    if "failed" in found:
        return {"ratio": "failed", "seconds": found["wall_seconds"]}
    search = found["search"]
    return {
        "ratio": found["latency"]["ratio"],
        "low": found["latency"]["low"],
        "high": found["latency"]["high"],
        "score": found["score"]["slim"],
        "parameters": found["slim"]["parameters"] / found["model"]["parameters"],
        "macs": found["slim"]["macs"] / found["model"]["macs"],
        "episodes": search["episodes"],
        "seconds": found["wall_seconds"],
        "search_seconds": search["seconds"],
        "agent_share": search["agent_seconds"] / search["seconds"],
    }
