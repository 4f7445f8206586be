"""The table of docs/models.md from results/zoo.json: `python benchmarks/zoo_table.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import RESULTS

DOCS = Path(__file__).parent.parent / "docs" / "models.md"
TEXT = """\
# What the analysis makes of real models

Written by `python benchmarks/zoo.py` from `benchmarks/results/zoo.json`: nets of torchvision and timm with random
weights, traced by both exporters of torch with a free batch, and other people's graphs as they were published.

- *left*: share of the parameters that stays when half the units of every group go, whole heads of attention and
  channels of every head both. What cannot shrink, a classifier's outputs above all, is in it.
- *channels*: share of the layers' output channels that are in a group.
- *proved*: in onnxruntime, on two images where the batch is free, the slim graph computes what the original computes
  with the removed channels' consumers zeroed (exact groups; the others keep names, shapes and finite values): all
  groups at once, whole branches, and {alone} groups of each model alone (none from 20 million parameters on).
- milliseconds are medians of three after `load`, on a machine that also did other things.
- *frozen*: layers that make channels which stay, and why. Outputs of the graph are left out.

{conditions}
"""
HEADER = (
    "| model | exporter | nodes | groups (exact, removable) | channels | left | analyse, slim ms | frozen | proved |"
)
ALONE = 4


def write_table() -> None:
    stored = json.loads((RESULTS / "zoo.json").read_text(encoding="utf-8"))
    stated = ", ".join(f"{key} {value}" for key, value in stored["conditions"].items())
    lines = [TEXT.format(alone=ALONE, conditions=f"{stated}."), HEADER, "| --- " * 9 + "|"]
    lines += map(_line, sorted(stored["rows"], key=_order))
    if stored["untraced"]:
        lines += ["", "Not traced: an exporter of torch refuses the net."]
        lines += [f"- {model}: {_short(why)}" for model, why in sorted(stored["untraced"].items())]
    DOCS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _order(row: Mapping[str, Any]) -> tuple[bool, bool, str, str]:
    return not row["exporter"], row["model"].startswith("timm"), row["model"], row["exporter"]


def _line(row: Mapping[str, Any]) -> str:
    frozen = [(count, why) for why, count in row["frozen"].items() if "graph output" not in why]
    cells = (
        row["model"],
        row["exporter"] or "as published",
        row["nodes"],
        f"{row['groups']} ({row['exact']}, {row['removable']})",
        f"{row['channels']:.2f}",
        f"{row['left']:.3f}",
        f"{row['analyse_ms']:.0f}, {row['slim_ms']:.0f}",
        "; ".join(f"{count} {why}" for count, why in sorted(frozen, reverse=True)),
        row["proved"],
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _short(text: str) -> str:
    return text if len(text) < 200 else text[:197] + "..."


if __name__ == "__main__":
    write_table()
