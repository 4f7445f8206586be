"""Joint training against its parts and against train-then-prune: `python benchmarks/joint.py [--only joint ...]`.

ResNet-20 on 10,000 training images of CIFAR-10, on the CPU; with the defaults one training takes about 30 minutes on
two quiet cores. Each variant is trained with the same schedule and seeds:

- `joint`: as it is meant to be; `no representation`, `no alignment`, `random agent`: without one part; `soft`: channels
  that go are on to the end;
- `plain`: the whole net, the control;
- `train, then prune`: the whole net for a part of the time that `joint` took, then `ortrim compress` to the same
  target, and `ortrim finetune` with what is left of that time.

A tenth of the images is held out and chooses plans; accuracy in the table is measured once, on the test images. Rows
are stored as they come, beside those of earlier runs with the same `--name`; a variant and seed that is there is not
trained again. Curves of the accuracy on held-out images go beside them. Two may run at a time with `OMP_NUM_THREADS=1`,
each then on one core.
"""

from __future__ import annotations

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

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "joint": (),
    "no representation": ("--no-representation",),
    "no alignment": ("--no-alignment",),
    "random agent": ("--random-agent",),
    "soft": ("--soft",),
    "plain": ("--no-prune",),
}
AFTERWARDS = "train, then prune"
SHARE = 0.6
"""Of the time of a joint training, what the whole net is trained for before it is pruned."""
WIDTH, HEIGHT, MARGIN = 860, 420, 50
COLOURS = ("#0a6c9b", "#b0520b", "#17693f", "#7b3fa0", "#a52a2a", "#5b6875", "#b8860b")


class Bench:
    """What all variants share."""

    def __init__(self, net: str, latency: str, images: Path, test: Path, epochs: int, flags: Sequence[str]) -> None:
        self.net, self.latency, self.images, self.test = net, latency, images, test
        self.epochs, self.flags = epochs, tuple(flags)

    def train(self, variant: str, seed: int, epochs: int | None = None, output: Path | None = None) -> dict[str, Any]:
        """Train one variant; its row, with a curve of its epochs."""
        output = output or self.place(variant, seed)
        target = () if variant == "plain" else ("--latency", self.latency)
        agents = () if variant == "plain" else self.flags
        found = ortrim(
            *("train", self.net, "--data", self.images, "--epochs", str(epochs or self.epochs), "--seed", str(seed)),
            *(*target, *VARIANTS[variant], *agents, *NORMALISE, "-o", output, "--force"),
        )
        return self.row(variant, seed, output, found)

    def afterwards(self, seed: int, seconds: float, seconds_an_epoch: float) -> dict[str, Any]:
        """Train the whole net, compress it, and teach what is left, in so many seconds."""
        started = time.perf_counter()
        epochs = max(1, round(SHARE * seconds / seconds_an_epoch))
        output = self.place(AFTERWARDS, seed)
        source, compressed = (output.with_name(f"{kind}_{seed}.onnx") for kind in ("whole", "compressed"))
        whole = self.train("plain", seed, epochs, source)
        found = ortrim(
            *("compress", source, "--data", self.images, "--latency", self.latency, "-o", compressed, "--force"),
            *("--episodes", "60", "--seed", str(seed), "--no-history", *NORMALISE),
        )
        if "failed" in found:
            return self.row(AFTERWARDS, seed, output, found)
        minutes = max(0.05, (seconds - (time.perf_counter() - started)) / 60)
        tuned = ortrim(
            *("finetune", compressed, "--teacher", source, "--data", self.images, "--minutes", f"{minutes:.3f}"),
            *("-o", output, "--force", *NORMALISE),
        )
        row = self.row(AFTERWARDS, seed, output if "failed" not in tuned else compressed, found)
        spent = time.perf_counter() - started
        return {**row, "epochs": epochs, "seconds": spent, "whole_test": whole.get("test")}

    def row(self, variant: str, seed: int, output: Path, found: dict[str, Any]) -> dict[str, Any]:
        """The figures of one training."""
        row: dict[str, Any] = {"variant": variant, "seed": seed, "net": self.net, "epochs": self.epochs}
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
        return folder / f"{variant.replace(', ', '_').replace(' ', '_')}_{seed}.onnx"


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

    def __init__(self, name: str) -> None:
        self.name = name

    def rows(self) -> list[dict[str, Any]]:
        path = RESULTS / f"{self.name}.json"
        return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []

    def of(self, variant: str, seed: int) -> dict[str, Any] | None:
        """The row of one training, where it is there and went well."""
        return next(
            (
                row
                for row in self.rows()
                if (row["variant"], row["seed"]) == (variant, seed) and row.get("ratio") != "failed"
            ),
            None,
        )

    def add(self, row: dict[str, Any]) -> None:
        """Store a row in place of an earlier one of its kind, and draw the curves of all."""
        others = [r for r in self.rows() if (r["variant"], r["seed"]) != (row["variant"], row["seed"])]
        rows = sorted([*others, row], key=lambda r: ([*VARIANTS, AFTERWARDS].index(r["variant"]), r["seed"]))
        store(self.name, rows)
        curves: dict[str, list[list[float]]] = defaultdict(list)
        for each in rows:
            if each["curve"]:
                curves[each["variant"]].append(each["curve"])
        if curves:
            (RESULTS / f"{self.name}.svg").write_text(picture(curves), encoding="utf-8")


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
@click.option("--only", multiple=True, type=click.Choice([*VARIANTS, AFTERWARDS]), help="some of the variants")
@click.option("--flag", "flags", multiple=True, help="another flag of ortrim train, e.g. --flag=--episodes=5")
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
    name: str,
    cifar: str,
) -> None:
    bench = Bench(net, latency, some_images(Path(cifar), images), need(Path(cifar) / "test.npz"), epochs, flags)
    kept = Kept(name)
    wanted = only or (*VARIANTS, AFTERWARDS)
    for seed in seeds:
        for variant in VARIANTS:
            needed = variant in wanted or (AFTERWARDS in wanted and variant in ("joint", "plain"))
            if needed and kept.of(variant, seed) is None:
                kept.add(bench.train(variant, seed))
        if AFTERWARDS in wanted and kept.of(AFTERWARDS, seed) is None:
            joint, plain = kept.of("joint", seed), kept.of("plain", seed)
            if joint is None or plain is None:
                raise click.ClickException(f"seed {seed}: without `joint` and `plain` there is no time to compare with")
            kept.add(bench.afterwards(seed, joint["seconds"], plain["seconds"] / plain["epochs"]))


if __name__ == "__main__":
    main()
