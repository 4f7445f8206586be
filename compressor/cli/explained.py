"""`ortrim bench --explain`: what each layer of a model takes and how it ran, as a table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .show import say, show_table, table

if TYPE_CHECKING:
    from pathlib import Path

    from ...runtime import Explanation, LayerTime

__all__ = ["show_explanation"]

_SMALL = 0.005
"""Layers below this share of the time are shown in one line, unless something is the matter with them."""


def show_explanation(path: Path, found: Explanation) -> None:
    """The layers in the order of execution, then what changes of layout cost, and what the layouts are."""
    rows = table("layer", "operator", ">ms", ">share", "ran as", "with it", "note")
    hidden: list[LayerTime] = []
    for layer in found.layers:
        note = _note(layer, found.provider)
        if layer.share < _SMALL and not note:
            hidden.append(layer)
            continue
        rows.add_row(
            layer.layer, layer.op, f"{layer.milliseconds:.3f}", _percent(layer.share), _kind(layer), _fused(layer), note
        )
    if hidden:
        milliseconds, share = sum(layer.milliseconds for layer in hidden), sum(layer.share for layer in hidden)
        rows.add_row(f"{len(hidden)} others", "", f"{milliseconds:.3f}", _percent(share), "", "", "")
    for reorder in found.reorders:
        if reorder.share >= _SMALL:
            way = f"between {reorder.maker} and {', '.join(reorder.readers)}" if reorder.maker else ""
            figures = (f"{reorder.milliseconds:.3f}", _percent(reorder.share))
            rows.add_row("change of layout", reorder.op, *figures, "", "", way)
    say(f"{path}: where the time goes")
    show_table(rows)
    for line in _sums(found):
        say(line)


def _kind(layer: LayerTime) -> str:
    """`Conv, blocked`; the operator only where it is another than the layer's."""
    kernel = layer.kernel.rpartition(".")[2]
    return ", ".join(part for part in (kernel if kernel != layer.op else "", layer.layout) if part)


def _fused(layer: LayerTime) -> str:
    return ", ".join(layer.fused[:2]) + (f", +{len(layer.fused) - 2}" if len(layer.fused) > 2 else "")


def _note(layer: LayerTime, provider: str) -> str:
    notes = [f"ran on {layer.provider}"] if layer.provider != provider else []
    if layer.layout == "plain":
        notes.append(layer.reason or "not blocked, for a reason that ortrim does not know")
    return "; ".join(notes)


def _sums(found: Explanation) -> list[str]:
    """What a reader would add up by hand."""
    blocked, plain = found.convolutions("blocked"), found.convolutions("plain")
    lines = []
    if blocked or plain:
        lines.append(f"convolutions: {len(blocked)} ran blocked (NCHWc), {len(plain)} plain")
    if found.reorders:
        share = found.reorder_ms / found.milliseconds
        ways = ", ".join(f"{count} {op}" for op, count in Counter(item.op for item in found.reorders).items())
        lines.append(f"changes of layout: {found.reorder_ms:.3f} ms, {_percent(share)} ({ways})")
    providers = Counter(layer.provider for layer in found.layers).most_common()
    lines.append("layers ran on " + ", ".join(f"{name}: {count}" for name, count in providers))
    lines.append(
        f"{found.milliseconds:.3f} ms on {found.device} with profiling, which adds to each kernel: the shares count"
    )
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
