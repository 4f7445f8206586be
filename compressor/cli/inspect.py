"""`ortrim inspect`: what can be pruned, what cannot, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .guard import quiet_onnxruntime, verbosity
from .options import FILE, device_option, force_option, json_option, model_argument, verbose_option
from .show import say, show_json, show_table, show_tree, table, width

if TYPE_CHECKING:
    from ...runtime import Explanation
    from .group_facts import GroupShare
    from .layer_facts import Layer, Member

__all__ = ["command"]

_SMALL = 0.01
"""Layers below this share of the latency are shown in one line."""


@click.command("inspect")
@model_argument
@click.option("--tree", is_flag=True, help="The layers that make, pass on and read each group; -v shows all of many.")
@click.option("--svg", type=FILE, metavar="FILE", help="Draw which layers are coupled.")
@device_option(None, "Show where the time goes too, measured there")
@force_option
@json_option
@verbose_option
@click.pass_context
def command(
    context: click.Context,
    *,
    model: Path,
    tree: bool,
    svg: Path | None,
    device: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Show what can be pruned, and what not and why."""
    from ..files import check_output, write_whole

    if tree and as_json:
        raise click.UsageError("--tree is for people and --json for programs: give one of them")
    if svg is not None:
        check_output(svg, force, inputs=[model])
    from ...graph import analyze, load, macs, parameters, slim
    from ...runtime import Device, explain
    from ..report.html import short
    from .group_facts import group_shares
    from .layer_facts import group_members, layers
    from .picture import picture

    quiet_onnxruntime()
    place = None if device is None else Device.parse(device)
    loaded = load(model)
    analysis = analyze(loaded)
    times = None if place is None else explain(loaded, place)
    groups = group_shares(loaded, analysis, times and {layer.layer: layer.share for layer in times.layers})
    members, rows = group_members(loaded, analysis.groups), layers(loaded, analysis)
    half = slim(loaded, {group.name: range(group.size // 2) for group in analysis.groups}, analysis=analysis)
    totals = {"parameters": parameters(loaded), "macs": macs(loaded)}
    halved = {"parameters": parameters(half), "macs": macs(half)}
    size = f"{short(totals['parameters'])} parameters, {short(totals['macs'])} MACs"
    if svg is not None:
        write_whole(svg, picture(model.name, f"{len(groups)} groups; {size}", rows, groups), overwrite=force)
    if as_json:
        show_json(
            {
                "model": {"path": str(model), **totals},
                "half": halved,
                "groups": [
                    {**asdict(group), "layers": [asdict(member) for member in members[group.name]]} for group in groups
                ],
                "frozen": [_without_none(asdict(item)) for item in analysis.frozen],
                **({} if times is None else times.to_dict()),
                **({} if svg is None else {"svg": str(svg)}),
            }
        )
        return
    if groups and tree:
        _show_trees(groups, members, timed=device is not None, whole=verbosity(context) > 0)
    elif groups:
        _show_groups(groups, timed=device is not None)
    _show_frozen(rows)
    if times is not None:
        _show_times(times)
    say(f"{model}: {size}")
    if groups:
        left = ", ".join(
            f"{_percent(halved[key] / totals[key])} of the {name}"
            for key, name in (("parameters", "parameters"), ("macs", "MACs"))
            if totals[key]
        )
        say(f"{len(groups)} groups; with half the units of each removed, {left} stay")
    else:
        say("nothing to prune: no group of channels can be removed")
    if svg is not None:
        say(f"picture: {svg}")


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
    _explain(timed=timed)


def _show_trees(
    groups: Sequence[GroupShare], members: Mapping[str, Sequence[Member]], *, timed: bool, whole: bool
) -> None:
    from ..report.html import short
    from .tree import group_tree

    columns = width()
    for group in groups:
        facts = [
            f"{group.size} unit{'s' if group.size != 1 else ''}",
            f"{short(group.parameters)} parameters",
            f"{_percent(group.macs_share)} of the MACs",
            *([f"{_percent(group.latency_share or 0.0)} of the time"] if timed else []),
            "exact" if group.exact else "not exact",
            "removable" if group.removable else "not removable",
        ]
        show_tree(group_tree(group.name, facts, members[group.name], columns, whole=whole))
    say("")
    _explain(timed=timed)


def _explain(*, timed: bool) -> None:
    """What the figures and the words about groups mean."""
    shares = "MACs and time" if timed else "MACs"
    say(f"parameters, {shares}: what goes with all of the group's units; MACs in per cent of the model's.")
    say("exact: removing a unit changes no more than not reading it would; removable: all units may go.")


def _show_frozen(rows: Sequence[Layer]) -> None:
    """A row for each reason, with how many channels stay where others of the layer may go."""
    from .names import fold

    reasons: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.frozen is not None:
            # What it says of a layer itself, by name, is the same reason as what it says of another.
            reason, part = row.frozen.reason.replace(f" {row.name!r}", ""), row.frozen.part
            reasons[reason][f" ({part})" if part else ""].append(row.name)
    if not reasons:
        return
    shown = table("frozen layer", "reason")
    for reason, parts in reasons.items():
        layers = [f"{names}{part}" for part, alike in parts.items() for names in fold(alike)]
        shown.add_row("\n".join(layers), reason)
    show_table(shown)


def _show_times(times: Explanation) -> None:
    rows = table("layer", "operator", ">ms", ">share", "ran on")
    ordered = sorted(times.layers, key=lambda layer: -layer.milliseconds)
    for layer in ordered:
        if layer.share >= _SMALL:
            rows.add_row(layer.layer, layer.op, f"{layer.milliseconds:.3f}", _percent(layer.share), layer.provider)
    small = [layer for layer in ordered if layer.share < _SMALL]
    for what, parts in (("others", small), ("changes of layout", times.reorders)):
        if parts:
            milliseconds, share = sum(part.milliseconds for part in parts), sum(part.share for part in parts)
            rows.add_row(f"{len(parts)} {what}", "", f"{milliseconds:.3f}", _percent(share), "")
    show_table(rows)
    say(
        f"time on {times.device}, one kernel after the other: profiling adds to each, so the shares count, not the sum."
    )


def _without_none(facts: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in facts.items() if value is not None}


def _some(names: Sequence[str]) -> str:
    """The first name, and how many more there are."""
    if not names:
        return "nothing"
    return names[0] if len(names) == 1 else f"{names[0]}, +{len(names) - 1}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
