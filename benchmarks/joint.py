"""Joint training against its parts and against train-then-prune: `python benchmarks/joint.py [--only joint ...]`.

ResNet-20 on 10,000 training images of CIFAR-10, on the CPU; with the defaults one training takes about 30 minutes on
two quiet cores. Each variant is trained with the same schedule and seeds:

- `joint`: as it is meant to be; `no representation`, `no alignment`, `random agent`: without one part; `soft`: channels
  that go are on to the end;
- `plain`: the whole net, the control;
- `train, then prune`: the whole net for a part of the time that `joint` took, then `ortrim compress` to the same
  target, and `ortrim finetune` with what is left of that time;
- `plain, then prune`: the control when its training is over, taken by `ortrim compress` to the same target on the same
  images. No further training: what the search and its refit give.

A tenth of the images is held out and chooses plans; accuracy in the table is measured once, on the test images. Rows
are stored as they come, beside those of earlier runs with the same `--name`. A row is known by its variant, seed, net,
schedule, images, latency and flags: one that is there is not made again. Curves of the accuracy on held-out images go
beside them. Two may run at a time with `OMP_NUM_THREADS=1`, each then on one core.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from cifar import CHENYAOFO as NORMALISE
from common import RESULTS, WORK, conditions, need, ortrim, store
from filelock import FileLock

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "joint": (),
    "no representation": ("--no-representation",),
    "no alignment": ("--no-alignment",),
    "random agent": ("--random-agent",),
    "soft": ("--soft",),
    "plain": ("--no-prune",),
}
AFTERWARDS, CONTROL = "train, then prune", "plain, then prune"
ALL = (*VARIANTS, AFTERWARDS, CONTROL)
SHARE = 0.6
"""Of the time of a joint training, what the whole net is trained for before it is pruned."""
WIDTH, HEIGHT, MARGIN = 860, 420, 50
COLOURS = ("#0a6c9b", "#b0520b", "#17693f", "#7b3fa0", "#a52a2a", "#5b6875", "#b8860b")

Key = Mapping[str, str | int]
"""Columns by which a row is known."""


class Bench:
    """What all variants share."""

    def __init__(
        self,
        net: str,
        latency: str,
        cifar: Path,
        images: int,
        epochs: int,
        flags: Sequence[str],
        agent_flags: Sequence[str],
    ) -> None:
        """
        Args:
            cifar: folder with train.npz and test.npz.
            images: how many of the former.
            flags: of every training.
            agent_flags: of those that prune.
        """
        self.net, self.latency, self.count, self.epochs = net, latency, images, epochs
        self.images, self.test = some_images(cifar, images), need(cifar / "test.npz")
        self.flags, self.agent_flags = tuple(flags), tuple(agent_flags)

    def key(self, variant: str, seed: int) -> Key:
        """What a row is known by: all that its figures depend on. The control knows no latency and no agent."""
        key: dict[str, str | int] = {"variant": variant, "seed": seed, "net": self.net}
        key |= {"schedule": self.epochs, "images": self.count, "flags": " ".join(self.flags)}
        if variant != "plain":
            key |= {"latency": self.latency}
        if variant not in ("plain", CONTROL):
            key |= {"agent_flags": " ".join(self.agent_flags)}
        return key

    def train(self, variant: str, seed: int, epochs: int | None = None, output: Path | None = None) -> dict[str, Any]:
        """Train one variant; its row, with a curve of its epochs."""
        output = output or self.place(variant, seed)
        pruned = () if variant == "plain" else ("--latency", self.latency, *self.agent_flags)
        found = ortrim(
            *("train", self.net, "--data", self.images, "--epochs", str(epochs or self.epochs), "--seed", str(seed)),
            *(*pruned, *VARIANTS[variant], *self.flags, *NORMALISE, "-o", output, "--force"),
        )
        return self.row(variant, seed, output, found)

    def compress(self, source: Path, seed: int, output: Path) -> dict[str, Any]:
        """A trained net at the same latency."""
        return ortrim(
            *("compress", source, "--data", self.images, "--latency", self.latency, "-o", output, "--force"),
            *("--episodes", "60", "--seed", str(seed), "--no-history", *NORMALISE),
        )

    def control(self, seed: int, plain: Mapping[str, Any]) -> dict[str, Any]:
        """Compress the control, whose row is `plain`."""
        output = self.place(CONTROL, seed)
        row = self.row(CONTROL, seed, output, self.compress(self.place("plain", seed), seed, output))
        seconds = {"seconds": plain["seconds"] + row["seconds"]}
        return {**row, **seconds, "epochs": plain["epochs"], "whole_test": plain["test"]}

    def afterwards(self, seed: int, seconds: float, seconds_an_epoch: float) -> dict[str, Any]:
        """Train the whole net, compress it, and teach what is left, in so many seconds."""
        started = time.perf_counter()
        epochs = max(1, round(SHARE * seconds / seconds_an_epoch))
        output = self.place(AFTERWARDS, seed)
        source, compressed = (output.with_name(f"{output.stem}_{kind}.onnx") for kind in ("whole", "compressed"))
        whole = self.train("plain", seed, epochs, source)
        if whole.get("ratio") == "failed":
            return {**whole, **self.key(AFTERWARDS, seed)}
        found = self.compress(source, seed, compressed)
        if "failed" in found:
            return self.row(AFTERWARDS, seed, output, found)
        minutes = max(0.05, (seconds - (time.perf_counter() - started)) / 60)
        tuned = ortrim(
            *("finetune", compressed, "--teacher", source, "--data", self.images, "--minutes", f"{minutes:.3f}"),
            *("--seed", str(seed), "-o", output, "--force", *NORMALISE),
        )
        row = self.row(AFTERWARDS, seed, output if "failed" not in tuned else compressed, found)
        if "failed" not in tuned:  # of images that fine-tuning holds out itself
            row["held_out"] = tuned["score"]["after"]
        spent = time.perf_counter() - started
        return {**row, "epochs": epochs, "seconds": spent, "whole_test": whole.get("test")}

    def row(self, variant: str, seed: int, output: Path, found: dict[str, Any]) -> dict[str, Any]:
        """The figures of one training."""
        row: dict[str, Any] = {**self.key(variant, seed), "epochs": self.epochs}
        row |= {key: value for key, value in conditions().items() if key in ("date", "cpu")}
        row["threads"] = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
        if "failed" in found:
            return {**row, "ratio": "failed", "seconds": found["wall_seconds"], "curve": []}
        joint = found.get("joint", {})
        if "latency" in found:
            row |= {key: found["latency"][key] for key in ("ratio", "low", "high")}
            row |= {"macs": found["slim"]["macs"] / found["model"]["macs"]}
        tested = ortrim("evaluate", output, "--data", self.test, *NORMALISE)
        history = joint.get("history", [])
        return {
            **row,
            "epochs": len(history) or self.epochs,
            "held_out": found["score"].get("slim", found["score"].get("value")),
            "test": tested["score"]["value"],
            "seconds": found["wall_seconds"],
            "curve": [epoch["accuracy"] if epoch["reward"] is None else epoch["reward"] for epoch in history],
        }

    def place(self, variant: str, seed: int) -> Path:
        """Where a variant's file goes."""
        folder = WORK / "joint"
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(json.dumps(self.key(variant, seed)).encode()).hexdigest()[:8]
        return folder / f"{variant.replace(', ', '_').replace(' ', '_')}_{seed}_{digest}.onnx"


def some_images(cifar: Path, count: int) -> Path:
    """The first training images, labelled."""
    part = WORK / f"cifar_{count}.npz"
    if not part.exists():
        with np.load(need(cifar / "train.npz")) as archive:
            part.parent.mkdir(parents=True, exist_ok=True)
            np.savez(part, images=archive["images"][:count], labels=archive["labels"][:count])
    return part


class Kept:
    """Rows on disk: another process may add to them."""

    def __init__(self, name: str, experiment: Key) -> None:
        """
        Args:
            experiment: the columns that all rows of this one agree in, as far as they have them.
        """
        self.name, self.experiment = name, experiment

    def rows(self) -> list[dict[str, Any]]:
        path = RESULTS / f"{self.name}.json"
        return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []

    def of(self, key: Key) -> dict[str, Any] | None:
        """The row of one training, where it is there and went well."""
        return next((row for row in self.rows() if same(row, key) and row.get("ratio") != "failed"), None)

    def add(self, key: Key, row: dict[str, Any]) -> None:
        """Store a row in place of an earlier one of its kind, and draw the curves of those of one experiment."""
        WORK.mkdir(parents=True, exist_ok=True)
        with FileLock(WORK / f"{self.name}.lock"):
            others = [other for other in self.rows() if not same(other, key)]
            rows = sorted([*others, row], key=lambda r: (ALL.index(r["variant"]), r["seed"]))
            store(self.name, rows)
            self._draw(rows)

    def _draw(self, rows: Sequence[Mapping[str, Any]]) -> None:
        curves: dict[str, list[list[float]]] = defaultdict(list)
        for each in rows:
            # The control has no latency, and is a part of the experiments with any.
            ours = "schedule" in each and all(each.get(name, value) == value for name, value in self.experiment.items())
            if each["curve"] and ours:
                curves[each["variant"]].append(each["curve"])
        if curves:
            (RESULTS / f"{self.name}.svg").write_text(picture(curves), encoding="utf-8")


def same(row: Mapping[str, Any], key: Key) -> bool:
    """Whether a row has a key. Rows of earlier versions do not say what they depend on: they have none."""
    return all(row.get(name) == value for name, value in key.items())


def picture(curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Accuracy of the part that stays on held-out images, against epochs; the mean over seeds, as SVG."""
    last = max(len(curve) for of_variant in curves.values() for curve in of_variant)
    right = WIDTH - 190
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="13"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    for score in np.linspace(0, 1, 6):
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * score
        parts.append(f'<line x1="{MARGIN}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e6ea"/>')
        parts.append(f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{score:.1f}</text>')
    parts.append(f'<text x="{right}" y="{HEIGHT - 14}" text-anchor="end">{last} epochs</text>')
    for number, (variant, of_variant) in enumerate(curves.items()):
        length = min(len(curve) for curve in of_variant)
        mean = np.mean([curve[:length] for curve in of_variant], axis=0)
        points = " ".join(
            f"{MARGIN + (right - MARGIN) * (n + 1) / last:.1f},{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * score:.1f}"
            for n, score in enumerate(mean)
        )
        colour, y = COLOURS[number % len(COLOURS)], MARGIN + 20 * number
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(f'<text x="{right + 12}" y="{y}" fill="{colour}">{variant} {mean[-1]:.3f}</text>')
    return "\n".join([*parts, "</svg>\n"])


@click.command()
@click.option("--net", default="ortrim:resnet20")
@click.option("--latency", default="0.6x")
@click.option("--epochs", default=100)
@click.option("--images", default=10_000, help="training images, a tenth of which is held out")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2))
@click.option("--only", multiple=True, type=click.Choice(ALL), help="some of the variants")
@click.option("--flag", "flags", multiple=True, help="another flag of every ortrim train, e.g. --flag=--batch=64")
@click.option("--agent-flag", "agent_flags", multiple=True, help="one where it prunes, e.g. --agent-flag=--episodes=5")
@click.option("--name", default="joint", help="of the results")
@click.option("--cifar", default=str(WORK / "cifar"), help="folder with train.npz and test.npz")
def main(
    net: str,
    latency: str,
    epochs: int,
    images: int,
    seeds: tuple[int, ...],
    only: tuple[str, ...],
    flags: tuple[str, ...],
    agent_flags: tuple[str, ...],
    name: str,
    cifar: str,
) -> None:
    bench = Bench(net, latency, Path(cifar), images, epochs, flags, agent_flags)
    kept = Kept(name, {key: value for key, value in bench.key("joint", 0).items() if key not in ("variant", "seed")})
    wanted = set(only or ALL)
    for seed in seeds:
        keys = {variant: bench.key(variant, seed) for variant in ALL}
        missing = {variant for variant in wanted if kept.of(keys[variant]) is None}
        needed = missing | ({"joint", "plain"} if AFTERWARDS in missing else set())
        if CONTROL in missing:
            needed.add("plain")
            if not bench.place("plain", seed).exists():  # its row may have come without the file
                kept.add(keys["plain"], bench.train("plain", seed))
        for variant in VARIANTS:
            if variant in needed and kept.of(keys[variant]) is None:
                kept.add(keys[variant], bench.train(variant, seed))
        joint, plain = kept.of(keys["joint"]), kept.of(keys["plain"])
        if AFTERWARDS in missing:
            if joint is None or plain is None:
                raise click.ClickException(f"seed {seed}: without `joint` and `plain` there is no time to compare with")
            row = bench.afterwards(seed, joint["seconds"], plain["seconds"] / plain["epochs"])
            kept.add(keys[AFTERWARDS], row)
        if CONTROL in missing:
            if plain is None:
                raise click.ClickException(f"seed {seed}: without `plain` there is nothing to compress")
            kept.add(keys[CONTROL], bench.control(seed, plain))


if __name__ == "__main__":
    main()
