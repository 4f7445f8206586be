"""`ortrim profile`: how latency moves with the channel count of each group on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .guard import quiet_onnxruntime
from .options import FILE, device_option, force_option, json_option, model_argument, verbose_option
from .show import progress_bar, say, show_json, show_table, table

if TYPE_CHECKING:
    from ..profile import GroupProfile, ModelProfile

__all__ = ["command"]

_MOST_STEPS = 8
"""Steps that a row of the table names; there may be more."""


@click.command("profile")
@model_argument
@device_option("cpu:threads=1", "Where to measure")
@click.option(
    "--group", "patterns", multiple=True, metavar="PATTERN", help="Only groups whose names match; may be repeated."
)
@click.option("--svg", type=FILE, metavar="FILE", help="Draw the staircases.")
@click.option("--no-cache", is_flag=True, help="Measure layers again that were measured on this device before.")
@force_option
@json_option
@verbose_option
def command(
    *,
    model: Path,
    device: str,
    patterns: tuple[str, ...],
    svg: Path | None,
    no_cache: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Show the device's steps: what each width of a group costs.

    Latency is a staircase in the channel count, and off its steps a net gets slower. Every layer that a group touches
    is measured at candidate widths, with what onnxruntime fuses into it, and kept for the next model.
    """
    from ...runtime import Device
    from ..cache import layer_cache
    from ..files import check_output, write_whole
    from ..profile import profile

    quiet_onnxruntime()
    place = Device.parse(device)
    if svg is not None:
        check_output(svg, force, inputs=[model])
    with progress_bar("groups measured") as advance:
        found = profile(model, place, patterns=patterns, cache=None if no_cache else layer_cache(), progress=advance)
    if svg is not None:
        from .staircases import staircases

        write_whole(svg, staircases(found, model.name), overwrite=force)
    if as_json:
        show_json(_facts(model, found) | ({} if svg is None else {"svg": str(svg)}))
        return
    _show(found)
    known = "" if no_cache else "; what was measured on this device before was known"
    say(f"{found.measured} layers at some width measured in {found.seconds:.0f} s{known}")
    facts = found.device
    say(f"{facts['spec']} on {facts['cpu']}, onnxruntime {facts['onnxruntime']}")


def _facts(model: Path, found: ModelProfile) -> dict[str, object]:
    return {
        "model": str(model),
        "device": found.device,
        "layers_ms": found.layers_ms,
        "measured": found.measured,
        "seconds": found.seconds,
        "groups": [
            {
                "name": group.name,
                "size": group.size,
                "steps": list(group.steps),
                "milliseconds": {str(width): cost for width, cost in group.milliseconds.items()},
            }
            for group in found.groups
        ],
    }


def _show(found: ModelProfile) -> None:
    from .blocks import spark

    rows = table("group", ">units", ">ms", ">share", "steps", "narrow to wide")
    for group in found.groups:
        share = group.full_ms / found.layers_ms if found.layers_ms else 0.0
        rows.add_row(
            group.name,
            str(group.size),
            f"{group.full_ms:.3f}",
            f"{100 * share:.1f} %",
            _steps(group),
            spark(list(group.milliseconds.values())),
        )
    show_table(rows)
    say("ms, share: all layers that make, pass on or read the group's channels, with every unit; one layer counts in")
    say("each of its groups. steps: the widths worth having, each cheaper than all wider ones.")


def _steps(group: GroupProfile) -> str:
    shown = [str(width) for width in group.steps[-_MOST_STEPS:]]
    more = len(group.steps) - len(shown)
    return " ".join([*([f"({more} more)"] if more else []), *shown])
