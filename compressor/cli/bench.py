"""`ortrim bench`: how long models take on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .explained import show_explanation
from .guard import quiet_onnxruntime
from .options import FILE, device_option, json_option, seed_option, verbose_option
from .show import note, say, show_json, show_table, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...runtime import Latency, Ratio

__all__ = ["command"]


def _shapes(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """`("x=1x3x224x224",)` -> `{"x": (1, 3, 224, 224)}`."""
    shapes = {}
    for value in values:
        name, _equals, sizes = value.rpartition("=")
        numbers = sizes.split("x")
        if not name or not all(number.isdecimal() and int(number) > 0 for number in numbers):
            raise click.BadParameter(f"{value!r} should look like NAME=1x3x224x224", param=option)
        shapes[name] = tuple(map(int, numbers))
    return shapes


@click.command("bench")
@click.argument("models", type=FILE, nargs=-1, required=True, metavar="A.onnx [B.onnx ...]")
@device_option("cpu:threads=1", "Where to measure")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="S",
    help="Time for each measurement: 3 for a single model, 10 for each comparison by default.",
)
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    callback=_shapes,
    metavar="NAME=1x3x224x224",
    help="Of an input with dynamic axes, which are 1 by default; may be repeated.",
)
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Size of the first axis of dynamic inputs.")
@click.option("--inputs", "inputs_file", type=FILE, metavar="FILE.npz", help="Inputs by name, instead of random ones.")
@click.option("--explain", "explained", is_flag=True, help="Where the time goes, layer by layer, and why.")
@seed_option
@json_option
@verbose_option
def command(
    *,
    models: tuple[Path, ...],
    device: str,
    seconds: float | None,
    shapes: dict[str, tuple[int, ...]],
    batch: int | None,
    inputs_file: Path | None,
    explained: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure models, alone or against the first.

    One model: its latency with an interval. Several: interleaved, with their ratios to the first. Inputs are random
    unless they are given.
    """
    if inputs_file is not None and (shapes or batch is not None):
        raise click.UsageError("--inputs brings its own shapes: leave --shape and --batch away")
    from ...runtime import Device, batch_shapes, compare_many, explain, measure, read_inputs

    quiet_onnxruntime()
    place = Device.parse(device)
    first, *others = models
    if batch is not None:
        shapes = batch_shapes(first, batch, shapes)
    fed = {"inputs": None if inputs_file is None else read_inputs(inputs_file), "shapes": shapes, "seed": seed}
    if others:
        ratios = compare_many(first, others, place, seconds=seconds or 10.0, **fed)
        latencies = [ratios[0].baseline, *(ratio.candidate for ratio in ratios)]
    else:
        ratios = ()
        latencies = [measure(first, place, seconds=seconds or 3.0, **fed)]
    explanations = [explain(model, place, **fed) for model in models] if explained else []
    for line in _doubts(models, latencies, ratios):
        note(line)
    if as_json:
        rows = [
            {"path": str(path), **latency.to_dict(), "ratio": None if ratio is None else _own(ratio)}
            for path, latency, ratio in zip(models, latencies, (None, *ratios), strict=True)
        ]
        for row, explanation in zip(rows, explanations, strict=False):
            row["explanation"] = explanation.to_dict()
        show_json({"device": latencies[0].conditions["device"], "models": rows})
    else:
        _show(models, latencies, ratios)
        for path, explanation in zip(models, explanations, strict=False):
            show_explanation(path, explanation)


def _own(ratio: Ratio) -> dict[str, object]:
    """The ratio without the two latencies, which stand beside it."""
    return {key: value for key, value in ratio.to_dict().items() if key not in ("baseline", "candidate")}


def _doubts(models: Sequence[Path], latencies: Sequence[Latency], ratios: Sequence[Ratio]) -> list[str]:
    """What a reader of the figures should know."""
    doubts = []
    drift = max((ratio for ratio in ratios if ratio.drifted), key=lambda ratio: abs(ratio.drift), default=None)
    if drift is not None:
        way = "slower" if drift.drift > 0 else "quicker"
        doubts.append(
            f"{models[0]} became {100 * abs(drift.drift):.0f} % {way} while it was measured: the machine is not "
            "steady, and the milliseconds are doubtful"
        )
    confidence = min(latency.confidence for latency in latencies)
    if confidence < 0.95:
        doubts.append(f"the intervals cover {100 * confidence:.0f} % only: allow more --seconds")
    provider = latencies[0].conditions["device"]["provider"]
    for path, latency in zip(models, latencies, strict=True):
        elsewhere = sum(nodes for name, nodes in latency.conditions["providers"].items() if name != provider)
        if elsewhere:
            doubts.append(f"{path}: {elsewhere} nodes did not run on {provider}")
    return doubts


def _show(models: Sequence[Path], latencies: Sequence[Latency], ratios: Sequence[Ratio]) -> None:
    from .blocks import histogram

    versus = (">ratio", ">interval") if ratios else ()
    rows = table(
        "model", ">median ms", f">{100 * latencies[0].confidence:.0f} % interval", ">p90 ms", *versus, "samples, ms"
    )
    for path, latency, ratio in zip(models, latencies, (None, *ratios), strict=True):
        cells = [str(path), f"{latency.median_ms:.4g}", f"{latency.low_ms:.3g} to {latency.high_ms:.3g}"]
        cells.append(f"{latency.p90_ms:.3g}")
        if ratio is not None:
            cells += [f"{ratio.value:.3f}x", f"{ratio.low:.3f} to {ratio.high:.3f}"]
        low, picture, high = histogram(latency.samples_ms)
        rows.add_row(*cells, f"{low:.3g} {picture} {high:.3g}")
    show_table(rows)
    for path, latency in zip(models, latencies, strict=True):
        nodes = (f"{count} on {name}" for name, count in latency.conditions["providers"].items())
        say(f"nodes of {path}: {', '.join(nodes)}")
    facts = latencies[0].conditions["device"]
    clock = {"thread-cpu": "CPU time of the calling thread", "wall": "wall time"}[latencies[0].clock]
    say(f"{facts['spec']} on {facts['cpu']}, onnxruntime {facts['onnxruntime']}; {clock}")
