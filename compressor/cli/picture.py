"""A picture of which layers are coupled: a row for each layer, a lane for each group.

It is read like the graph beside a version history. A group's line runs from its first layer to its last, and marks on
it say what the layers do with its channels; so what loses channels together hangs on one line. Rows are in graph order,
and lanes are used again once a group has ended: the picture grows with the layers, and hardly in width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...graph import Role
from ..report.html import short
from .canvas import Canvas, text_width
from .picture_layout import (
    BEHIND_MARK,
    EDGE,
    GAP,
    HEAD,
    INK,
    LANE,
    LEGEND,
    MUTED,
    NOTE,
    PALE,
    SMALL,
    STRIPE,
    TITLE,
    Layout,
    Row,
    lay_out,
    what_stays,
)

if TYPE_CHECKING:
    from .group_facts import GroupShare
    from .layer_facts import Layer

__all__ = ["picture"]


def picture(title: str, subtitle: str, layers: Sequence[Layer], groups: Sequence[GroupShare]) -> bytes:
    """The SVG file.

    Args:
        layers: in graph order.
        groups: all that the layers take part in.
    """
    layout = lay_out(title, layers, groups)
    canvas = Canvas.blank(layout.columns.end, layout.height, f"{title}: {subtitle}")
    _head(canvas, subtitle, layout)
    for number, row in enumerate(layout.rows):
        _behind(canvas, row, layout, striped=number % 2 == 1)
    for name, lane in layout.lanes.items():
        top, bottom = (layout.rows[number].middle for number in (lane.first, lane.last))
        canvas.part(_about_group(lane.group), group=name).line((lane.x, top), (lane.x, bottom), lane.colour, 2.5)
    before = ""
    for row in layout.rows:
        part = canvas.part(_about_layer(row.layer), layer=row.layer.name)
        _marks(part, row, layout)
        _words(part, row, before, layout)
        before = row.name
    return canvas.svg()


def _head(canvas: Canvas, subtitle: str, layout: Layout) -> None:
    columns = layout.columns
    canvas.text(EDGE, 26, (INK, layout.title), size=TITLE, bold=True)
    canvas.text(EDGE, 47, (MUTED, subtitle))
    x = float(EDGE + LANE / 2)
    for roles, text in LEGEND:
        _mark(canvas, x, 69, roles, INK)
        canvas.text(x + BEHIND_MARK, 69, (MUTED, text))
        x += BEHIND_MARK + text_width(text) + GAP
    for x, text, anchor in (
        (columns.name, "layer", "start"),
        (columns.op, "operator", "start"),
        ((columns.inputs + columns.outputs) / 2, "channels", "middle"),
        (columns.share, "MACs", "end"),
        (columns.notes, "group that begins here, and what stays", "start"),
    ):
        canvas.text(x, HEAD - 12, (MUTED, text), size=SMALL, anchor=anchor)
    canvas.line((EDGE / 2, HEAD - 2), (columns.end - EDGE / 2, HEAD - 2), PALE, 1)


def _behind(canvas: Canvas, row: Row, layout: Layout, *, striped: bool) -> None:
    """What leads the eye along a row, from its marks to its text."""
    if striped:
        canvas.rectangle(EDGE / 2, row.y, layout.columns.end - EDGE, row.height, STRIPE)
    if row.layer.groups:
        first = min(layout.lanes[group].x for group, _ in row.layer.groups)
        canvas.line((first, row.middle), (layout.columns.name - 8, row.middle), PALE, 1)


def _marks(canvas: Canvas, row: Row, layout: Layout) -> None:
    roles: dict[str, set[Role]] = defaultdict(set)
    for group, role in row.layer.groups:
        roles[group].add(role)
    for group, its in roles.items():
        _mark(canvas, layout.lanes[group].x, row.middle, its, layout.lanes[group].colour)


def _mark(canvas: Canvas, x: float, y: float, roles: set[Role], colour: str) -> None:
    """A dot for what makes channels, a ring for what reads them, both in one for what does both; else a tick."""
    if Role.CONSUMER in roles:
        canvas.circle(x, y, 5, "#ffffff", colour)
        if Role.PRODUCER in roles:
            canvas.circle(x, y, 2, colour, colour, 1)
    elif Role.PRODUCER in roles:
        canvas.circle(x, y, 5, colour, colour)
    else:
        canvas.line((x - 4, y), (x + 4, y), colour, 2.5)


def _words(canvas: Canvas, row: Row, before: str, layout: Layout) -> None:
    """The texts of a row. What its name has in common with the one above is paler."""
    layer, y, size, columns = row.layer, row.middle, row.size, layout.columns
    shared = _shared(before, row.name)
    ink = MUTED if layer.passes else INK
    canvas.text(columns.name, y, (MUTED, row.name[:shared]), (ink, row.name[shared:]), size=size)
    canvas.text(columns.op, y, (MUTED, layer.op), size=size)
    if layer.outputs is not None and not layer.passes:
        canvas.text(columns.inputs, y, (_side(layer, Role.CONSUMER, layout), str(layer.inputs)), anchor="end")
        canvas.text((columns.inputs + columns.outputs) / 2, y, (MUTED, "→"), anchor="middle")
    if layer.outputs is not None:
        canvas.text(columns.outputs, y, (_side(layer, Role.PRODUCER, layout), str(layer.outputs)), size=size)
    if layer.macs_share:
        canvas.text(columns.share, y, (MUTED, f"{100 * layer.macs_share:.1f} %"), anchor="end")
    top = y - NOTE * (len(row.notes) - 1) / 2
    for number, (colour, text) in enumerate(row.notes):
        canvas.text(columns.notes, top + number * NOTE, (colour, text))


def _side(layer: Layer, role: Role, layout: Layout) -> str:
    """The colour of a layer's inputs or outputs: of their group, where it is a single one."""
    groups = {group for group, its in layer.groups if its in (role, Role.FOLLOWER)}
    return MUTED if not groups else layout.lanes[groups.pop()].colour if len(groups) == 1 else INK


def _about_group(group: GroupShare) -> str:
    """The tooltip of a lane."""
    exact, removable = "exact" if group.exact else "not exact", "removable" if group.removable else "not removable"
    return (
        f"{group.name}: {group.size} units, {short(group.parameters)} parameters, "
        f"{100 * group.macs_share:.1f} % of the MACs, {exact}, {removable}\n"
        f"made by {', '.join(group.producers)}\nread by {', '.join(group.consumers)}"
    )


def _about_layer(layer: Layer) -> str:
    """The tooltip of a row."""
    words = {Role.PRODUCER: "makes", Role.FOLLOWER: "passes on", Role.CONSUMER: "reads"}
    does = (f"{words[role]} channels of {group}" for group, role in layer.groups)
    return "\n".join(
        [f"{layer.name} ({layer.op})", *does, *([] if layer.frozen is None else [what_stays(layer.frozen)])]
    )


def _shared(before: str, name: str) -> int:
    """How much of a name is like the one above it, to the last separator."""
    same = next((place for place, (a, b) in enumerate(zip(before, name, strict=False)) if a != b), len(name))
    return max(name.rfind(separator, 0, same) for separator in "/.") + 1
