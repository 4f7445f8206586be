"""Where everything in the picture is, and what is written: lanes of groups, rows of layers, columns of text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from ...graph import Role
from .canvas import text_width
from .lanes import colours, pack

if TYPE_CHECKING:
    from ...graph import Frozen
    from .group_facts import GroupShare
    from .layer_facts import Layer

__all__ = [
    "BEHIND_MARK",
    "EDGE",
    "GAP",
    "HEAD",
    "INK",
    "LANE",
    "LEGEND",
    "MUTED",
    "NOTE",
    "PALE",
    "SMALL",
    "STRIPE",
    "TITLE",
    "Layout",
    "Row",
    "lay_out",
    "what_stays",
]

_COLOURS = (
    "#1f6fb4",
    "#d9660a",
    "#2b8a3e",
    "#c2255c",
    "#7048b6",
    "#0b8793",
    "#8a6d1a",
    "#b5179e",
    "#495fd8",
    "#a0522d",
)
INK, MUTED, PALE, STRIPE = "#1f2328", "#6e7781", "#ccd2d8", "#f4f6f8"

# Pixels.
EDGE, GAP, HEAD = 18, 22, 104
LANE, _ROW, _THIN_ROW, NOTE = 16, 22, 14, 15
_FIGURE, _ARROW = 40, 26
TITLE, TEXT, SMALL = 15, 12, 10

_LONG, _LONG_REASON = 72, 120
"""Longer names and reasons are cut in the middle; tooltips have them whole."""

LEGEND = (
    ({Role.PRODUCER}, "makes the group's channels"),
    ({Role.CONSUMER}, "reads them"),
    ({Role.PRODUCER, Role.CONSUMER}, "reads and makes them"),
    ({Role.FOLLOWER}, "has parameters for them"),
)
BEHIND_MARK = 12


@dataclass(frozen=True)
class Lane:
    """Where a group's line is and how it looks."""

    group: GroupShare
    x: float
    colour: str
    first: int
    last: int


@dataclass(frozen=True)
class Row:
    """Where a layer is and what is written behind it: colours and texts of notes."""

    layer: Layer
    y: float
    height: float
    notes: tuple[tuple[str, str], ...]

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def name(self) -> str:
        """The layer's name as it is written."""
        return _shortened(self.layer.name)

    @property
    def size(self) -> int:
        """Of the text. What only passes channels on steps back."""
        return SMALL if self.layer.passes else TEXT


@dataclass(frozen=True)
class Columns:
    """Where the columns of text begin (of figures: where they end)."""

    name: float
    op: float
    inputs: float
    outputs: float
    share: float
    notes: float
    end: float


@dataclass(frozen=True)
class Layout:
    """The whole picture."""

    title: str
    lanes: Mapping[str, Lane]
    """Of each group, by its name."""
    rows: tuple[Row, ...]
    columns: Columns

    @property
    def height(self) -> float:
        return (self.rows[-1].y + self.rows[-1].height if self.rows else HEAD) + EDGE


def lay_out(title: str, layers: Sequence[Layer], groups: Sequence[GroupShare]) -> Layout:
    """The picture of layers, in graph order, and of all groups that they take part in."""
    lanes = _lanes(layers, groups)
    rows = tuple(_rows(layers, lanes))
    return Layout(title, lanes, rows, _columns(title, lanes, rows))


def _lanes(layers: Sequence[Layer], groups: Sequence[GroupShare]) -> dict[str, Lane]:
    places = defaultdict(list)
    for number, layer in enumerate(layers):
        for group, _ in layer.groups:
            places[group].append(number)
    spans = [(places[group.name][0], places[group.name][-1]) for group in groups]
    each = zip(groups, spans, pack(spans), colours(spans, len(_COLOURS)), strict=True)
    return {
        group.name: Lane(group, EDGE + LANE / 2 + lane * LANE, _COLOURS[colour], *span)
        for group, span, lane, colour in each
    }


def _rows(layers: Sequence[Layer], lanes: Mapping[str, Lane]) -> list[Row]:
    notes: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for lane in lanes.values():
        notes[lane.first].append((lane.colour, _note(lane.group)))
    for number, layer in enumerate(layers):
        if layer.frozen is not None:
            notes[number].append((MUTED, _shortened(what_stays(layer.frozen), _LONG_REASON)))
    heights = [
        max(_THIN_ROW if layer.passes else _ROW, NOTE * len(notes[number]) + 4) for number, layer in enumerate(layers)
    ]
    tops = accumulate(heights, initial=HEAD)
    return [
        Row(layer, top, height, tuple(notes[number]))
        for number, (layer, top, height) in enumerate(zip(layers, tops, heights, strict=False))
    ]


def _columns(title: str, lanes: Mapping[str, Lane], rows: Sequence[Row]) -> Columns:
    """Columns as wide as their longest text."""
    name = max((lane.x for lane in lanes.values()), default=EDGE) + LANE / 2 + GAP
    op = name + _widest([(row.name, row.size) for row in rows]) + GAP
    inputs = op + _widest([("operator", SMALL), *((row.layer.op, row.size) for row in rows)]) + GAP + _FIGURE
    outputs = inputs + _ARROW
    share = outputs + _FIGURE + GAP + _FIGURE
    notes = share + GAP
    ends = (
        notes + _widest([(text, TEXT) for row in rows for _, text in row.notes]),
        EDGE + sum(LANE / 2 + BEHIND_MARK + text_width(text) + GAP for _, text in LEGEND),
        EDGE + text_width(title, TITLE),
    )
    return Columns(name, op, inputs, outputs, share, notes, max(ends) + GAP + EDGE)


def _widest(texts: Sequence[tuple[str, float]]) -> float:
    return max((text_width(text, size) for text, size in texts), default=0.0)


def _note(group: GroupShare) -> str:
    units = f"{group.size} unit{'s' if group.size != 1 else ''}"
    flags = f"{'' if group.exact else ', not exact'}{', removable' if group.removable else ''}"
    return f"{_shortened(group.name)}: {units}, {100 * group.macs_share:.1f} % of the MACs{flags}"


def what_stays(frozen: Frozen) -> str:
    """`stays: ...`, or `4 of 16 stay: ...`."""
    return f"{frozen.part} stay: {frozen.reason}" if frozen.part else f"stays: {frozen.reason}"


def _shortened(text: str, most: int = _LONG) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) + 1 :]}"
