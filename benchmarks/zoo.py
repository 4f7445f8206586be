"""What the analysis makes of the models that people export: `python benchmarks/zoo.py [PATTERN ...]`.

Traces torchvision's nets and timm's (`pip install timm`) with both exporters of torch into `--models DIR`, adds other
people's graphs where they are at hand, takes half the units of every group, and proves the cut in onnxruntime. Results
go to `results/zoo.json` as they come, so a run that was stopped goes on; `zoo_table.py` writes `docs/models.md`.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

import click
import numpy as np
import onnx
from common import RESULTS, SHARED, WORK, conditions
from zoo_table import write_table

from ortrim.errors import OrtrimError
from ortrim.graph import ChannelAnalysis, Role, analyze, load, parameters, slim, verify

STORED = RESULTS / "zoo.json"
EXPORTERS = ("default", "legacy")
REPEATS = 3
TIMM = Path(__file__).with_name("zoo_timm.txt").read_text(encoding="utf-8").split()
LARGE = 20_000_000
"""Parameters from which on groups are proved together only."""
SLOW = {"nasnetalarge", "swin3d_s", "swin3d_b"}
"""Nets of families that are there already, each of which would take minutes to trace."""


@dataclass(frozen=True)
class Row:
    """One model as one exporter writes it."""

    model: str
    exporter: str
    """default, legacy, or empty for a file as it was published."""
    nodes: int
    groups: int
    exact: int
    removable: int
    channels: float
    """Share of the layers' output channels that are in a group."""
    left: float
    """Share of the parameters left with half the units of every group removed."""
    analyse_ms: float
    slim_ms: float
    frozen: dict[str, int]
    """Reason -> layers that make channels which stay; names are left out."""
    proved: str
    """`yes`, or what went wrong."""


def specs() -> Iterator[tuple[str, str]]:
    """Name and what `ortrim trace` is told."""
    import torchvision

    from ortrim.models.build import UNTRACEABLE

    for name in torchvision.models.list_models():
        family = torchvision.models.get_model_builder(name).__module__.removeprefix("torchvision.models.").split(".")[0]
        if family not in UNTRACEABLE and name not in SLOW:
            yield name, f"torchvision:{name}"
    for name in TIMM:
        if name not in SLOW:
            yield f"timm {name}", f"timm.models:{name}"


def place(name: str, exporter: str, folder: Path) -> Path:
    return folder / f"{name.replace(' ', '_')}.{exporter}.onnx"


def _bytes(file: Path) -> float:
    return file.stat().st_size if file.exists() else float("inf")


def traced(spec: str, name: str, exporter: str, folder: Path) -> Path:
    """The traced file; a failure is kept beside it, so that it is tried once."""
    from ortrim.models.trace import trace

    file = place(name, exporter, folder)
    failed = file.with_suffix(".onnx.failed")
    if failed.exists():
        raise RuntimeError(failed.read_text(encoding="utf-8"))
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            trace(spec, file, exporter=exporter)
        except OrtrimError as error:
            failed.write_text(str(error), encoding="utf-8")
            raise RuntimeError(str(error)) from error
    return file


def measure(file: Path, model: str, exporter: str, alone: int) -> Row:
    """Analyse, slim and prove."""
    loaded = load(file)
    analysing, slimming = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        analysis = analyze(loaded)
        analysing.append(time.perf_counter() - started)
        rng = np.random.default_rng(0)
        half = {g.name: rng.permutation(g.size)[: g.size // 2].tolist() for g in analysis.groups if g.size > 1}
        started = time.perf_counter()
        small = slim(loaded, half, analysis=analysis)
        slimming.append(time.perf_counter() - started)
    whole = parameters(loaded)
    return Row(
        model,
        exporter,
        len(loaded.graph.node),
        len(analysis.groups),
        sum(group.exact for group in analysis.groups),
        sum(group.removable for group in analysis.groups),
        prunable_channels(loaded, analysis),
        parameters(small) / whole if whole else 1.0,
        1000 * statistics.median(analysing),
        1000 * statistics.median(slimming),
        dict(Counter(anonymous(item.reason) for item in analysis.frozen)),
        proof(loaded, analysis, half, alone if whole < LARGE else 0),
    )


def proof(model: onnx.ModelProto, analysis: ChannelAnalysis, half: dict[str, list[int]], alone: int) -> str:
    """The cut against the original: all groups, the exact ones with whole branches, and `alone` groups one by one."""
    exact = {name: units for name, units in half.items() if analysis.group(name).exact}
    whole = {group.name: range(group.size) for group in analysis.groups if group.removable}
    removals = [half] if exact == half else [half, exact]
    removals += [{**exact, **whole}] if whole else []
    removals += [{name: half[name]} for name in np.random.default_rng(1).permutation(sorted(half))[:alone].tolist()]
    for removal in filter(None, removals):
        try:
            verify(model, slim(model, removal, analysis=analysis), removal, analysis=analysis)
        except OrtrimError as error:
            return str(error)
    return "yes"


def prunable_channels(model: onnx.ModelProto, analysis: ChannelAnalysis) -> float:
    """Of the channels that layers make: entries of producers' weights, a unit counted in every layer that makes it."""
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    made = sum(
        slot.positions.size
        for group in analysis.groups
        if not group.name.endswith("/heads")
        for slot in group.slots
        if slot.role is Role.PRODUCER and len(sizes[slot.tensor]) > 1
    )
    nodes = {node.name: node for node in model.graph.node}
    fixed = 0
    for item in analysis.frozen:
        node = nodes[item.layer]
        shape = next((sizes[name] for name in node.input[1:2] if name in sizes), [])
        if shape:
            fixed += item.channels or (shape[-1] if node.op_type == "MatMul" else shape[0])
    return made / (made + fixed) if made + fixed else 0.0


def anonymous(reason: str) -> str:
    """The reason without names, so that equal ones can be counted."""
    return "".join(part if place % 2 == 0 else "..." for place, part in enumerate(reason.split("'")))


@click.command()
@click.argument("patterns", nargs=-1)
@click.option("--models", type=click.Path(path_type=Path), default=WORK / "zoo", help="where traced models are kept")
@click.option("--alone", default=4, help="groups of each model that are proved one by one")
@click.option("--again", is_flag=True, help="measure what is stored already, too")
def main(patterns: tuple[str, ...], models: Path, alone: int, again: bool) -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {"rows": [], "untraced": {}}
    rows = {(row["model"], row["exporter"]): Row(**row) for row in stored["rows"]}
    untraced: dict[str, str] = stored["untraced"]
    wanted = [(name, exporter, spec) for name, spec in specs() for exporter in EXPORTERS]
    wanted += [(file.stem, "", str(file)) for file in sorted((SHARED / "models").glob("*/*.onnx"))]
    wanted.sort(key=lambda item: _bytes(place(item[0], item[1], models) if item[1] else Path(item[2])))  # small first
    for name, exporter, spec in wanted:
        if (patterns and not any(fnmatch(name, pattern) for pattern in patterns)) or (
            (name, exporter) in rows and not again
        ):
            continue
        try:
            file = traced(spec, name, exporter, models) if exporter else Path(spec)
        except RuntimeError as error:
            untraced[f"{name} ({exporter})"] = str(error)
            click.echo(f"{name} {exporter}: {error}")
            continue
        row = rows[name, exporter] = measure(file, name, exporter, alone)
        untraced.pop(f"{name} ({exporter})", None)
        click.echo(f"{name} {exporter}: {row.groups} groups, {row.left:.3f}, {row.analyse_ms:.0f} ms, {row.proved}")
        content = {"conditions": conditions(), "rows": [asdict(r) for r in rows.values()], "untraced": untraced}
        RESULTS.mkdir(exist_ok=True)
        STORED.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write_table()


if __name__ == "__main__":
    main()
