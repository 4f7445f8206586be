"""The picture of `ortrim profile`: a staircase for each group, small and side by side."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from .canvas import Canvas

if TYPE_CHECKING:
    from ..profile import GroupProfile, ModelProfile

__all__ = ["staircases"]

_COLUMNS = 3
_WIDTH, _HEIGHT = 300.0, 170.0
"""Of a panel, gaps included."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 18.0, 30.0, 34.0
"""Around the curve: room for figures and the name."""
_HEAD = 56.0
_INK, _MUTED, _GRID, _CURVE, _STEP = "#1f2328", "#656d76", "#e3e6ea", "#8c959f", "#0969da"
_LONGEST_NAME = 36


def staircases(found: ModelProfile, title: str) -> bytes:
    """An SVG file: milliseconds against units kept, the steps marked."""
    rows = -(-len(found.groups) // _COLUMNS)
    canvas = Canvas.blank(_COLUMNS * _WIDTH + _RIGHT, _HEAD + rows * _HEIGHT, f"staircases of {title}")
    canvas.text(16, 20, (_INK, title), size=15, bold=True)
    device = f"{found.device['spec']} on {found.device['cpu']}, onnxruntime {found.device['onnxruntime']}"
    canvas.text(16, 42, (_MUTED, f"milliseconds against units kept, steps in blue; {device}"), size=11)
    for number, group in enumerate(found.groups):
        row, column = divmod(number, _COLUMNS)
        steps = ", ".join(map(str, group.steps))
        part = canvas.part(f"{group.name}: steps {steps}", group=group.name)
        _panel(part, group, column * _WIDTH, _HEAD + row * _HEIGHT)
    return canvas.svg()


def _panel(part: Canvas, group: GroupProfile, left: float, top: float) -> None:
    most = max(group.milliseconds.values()) or 1.0
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(units: int, cost: float) -> tuple[float, float]:
        return left + _LEFT + width * units / group.size, top + _TOP + height * (1 - cost / most)

    part.text(left + 16, top + 14, (_INK, _shortened(group.name)), size=11)
    for share in (0.0, 0.5, 1.0):
        x, y = at(0, share * most)
        part.line((x, y), (x + width, y), _GRID, 1)
        part.text(x - 6, y, (_MUTED, f"{share * most:.3g}"), size=10, anchor="end")
    for units in (0, group.size):
        x, y = at(units, 0.0)
        part.text(x, y + 13, (_MUTED, str(units)), size=10, anchor="middle")
    places = [at(units, cost) for units, cost in group.milliseconds.items()]
    for start, end in pairwise(places):
        part.line(start, end, _CURVE, 1.5)
    for units, cost in group.milliseconds.items():
        colour = _STEP if units in group.steps else _CURVE
        part.circle(*at(units, cost), 3 if units in group.steps else 1.5, colour, colour, 1)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
