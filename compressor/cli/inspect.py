"""`ortrim inspect`: what can be pruned, what cannot, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .guard import quiet_onnxruntime
from .options import device_option, json_option, model_argument, verbose_option
from .show import say, show_json, show_table, table

if TYPE_CHECKING:
    from ...graph import ChannelAnalysis
    from .group_facts import GroupShare, LayerTime

__all__ = ["command"]

_SMALL = 0.01
"""Layers below this share of the latency are shown in one line."""


@click.command("inspect")
@model_argument
@device_option(None, "Show where the time goes too, measured there")
@json_option
@verbose_option
def command(model: Path, device: str | None, as_json: bool) -> None:
    """Show what can be pruned, and what not and why."""
    from ...graph import analyze, load, macs, parameters, slim
    from ...runtime import Device
    from ..report.html import short
    from .group_facts import group_shares, layer_times

    quiet_onnxruntime()
    place = None if device is None else Device.parse(device)
    loaded = load(model)
    analysis = analyze(loaded)
    times = () if place is None else layer_times(loaded, place)
    groups = group_shares(loaded, analysis, {time.layer: time.share for time in times} if times else None)
    half = slim(loaded, {group.name: range(group.size // 2) for group in analysis.groups}, analysis=analysis)
    totals = {"parameters": parameters(loaded), "macs": macs(loaded)}
    halved = {"parameters": parameters(half), "macs": macs(half)}
    if as_json:
        show_json(
            {
                "model": {"path": str(model), **totals},
                "half": halved,
                "groups": [asdict(group) for group in groups],
                "frozen": [asdict(item) for item in analysis.frozen],
                **({} if device is None else {"device": device, "layers": [asdict(time) for time in times]}),
            }
        )
        return
    if groups:
        _show_groups(groups, timed=device is not None)
    _show_frozen(analysis)
    if times:
        _show_times(times, device or "")
    say(f"{model}: {short(totals['parameters'])} parameters, {short(totals['macs'])} MACs")
    if groups:
        left = ", ".join(
            f"{_percent(halved[key] / totals[key])} of the {name}"
            for key, name in (("parameters", "parameters"), ("macs", "MACs"))
            if totals[key]
        )
        say(f"{len(groups)} groups; with half the units of each removed, {left} stay")
    else:
        say("nothing to prune: no group of channels can be removed")


def _show_groups(groups: Sequence[GroupShare], *, timed: bool) -> None:
    from ..report.html import short

    rows = table(
        "group",
        ">units",
        ">parameters",
        ">MACs",
        *([">time"] if timed else []),
        "exact",
        "removable",
        "made by -> read by",
    )
    for group in groups:
        rows.add_row(
            group.name,
            str(group.size),
            short(group.parameters),
            _percent(group.macs_share),
            *([_percent(group.latency_share or 0.0)] if timed else []),
            _yes(group.exact),
            _yes(group.removable),
            f"{_some(group.producers)} -> {_some(group.consumers)}",
        )
    show_table(rows)
    shares = "MACs and time" if timed else "MACs"
    say(f"parameters, {shares}: what goes with all of the group's units; MACs in per cent of the model's.")


def _show_frozen(analysis: ChannelAnalysis) -> None:
    if not analysis.frozen:
        return
    rows = table("frozen layer", "reason")
    for item in analysis.frozen:
        rows.add_row(item.layer, item.reason)
    show_table(rows)


def _show_times(times: Sequence[LayerTime], device: str) -> None:
    rows = table("layer", "operator", ">ms", ">share", "ran on")
    large = [time for time in times if time.share >= _SMALL]
    for time in large:
        rows.add_row(time.layer, time.op, f"{time.milliseconds:.3f}", _percent(time.share), time.provider)
    if small := [time for time in times if time.share < _SMALL]:
        milliseconds, share = sum(time.milliseconds for time in small), sum(time.share for time in small)
        rows.add_row(f"{len(small)} others", "", f"{milliseconds:.3f}", _percent(share), "")
    show_table(rows)
    say(f"time on {device}, one kernel after the other: profiling adds to each, so the shares count, not the sum.")


def _some(names: Sequence[str]) -> str:
    """The first name, and how many more there are."""
    if not names:
        return "nothing"
    return names[0] if len(names) == 1 else f"{names[0]}, +{len(names) - 1}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
