"""A small chart: axes with round ticks, points, lines and labels, as an SVG element for one page.

Colours are classes that the page's style sheet defines, so that charts follow its light and dark themes. Elements are
built with ElementTree, which escapes whatever text they get.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

__all__ = ["SMALL", "Axis", "Chart", "Frame", "bar", "ticks"]


@dataclass(frozen=True)
class Frame:
    """Size of a chart, and the room around its plot."""

    width: int = 520
    height: int = 320
    left: int = 66
    right: int = 14
    top: int = 34
    bottom: int = 46
    ticks: int = 5
    """About so many marks along each axis."""


WHOLE = Frame()
SMALL = Frame(width=260, height=150, left=54, right=12, top=10, bottom=28, ticks=3)
"""For many charts side by side: no room for a legend nor for labels of the axes."""


@dataclass(frozen=True)
class Axis:
    """What one direction of a chart shows."""

    label: str
    low: float
    high: float
    format: Callable[[float], str]

    @classmethod
    def around(cls, label: str, values: Sequence[float], format: Callable[[float], str], margin: float = 0.06) -> Axis:
        """An axis that shows all finite `values` with some room; some range around 0 or a single value."""
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(finite), max(finite)
        room = (high - low) * margin or abs(high) * 0.1 or 1.0
        return cls(label, low - room, high + room, format)


class Chart:
    """One chart. Positions are given in the units of the axes; what lies outside is not drawn."""

    def __init__(
        self, key: str, title: str, description: str, x: Axis, y: Axis, y_ticks: bool = True, frame: Frame = WHOLE
    ) -> None:
        """
        Args:
            key: unique on the page.
            title, description: for readers who do not see the picture.
            y_ticks: False for heights whose unit says nothing.
        """
        self.x, self.y, self.frame = x, y, frame
        self._root = ElementTree.Element(
            "svg",
            {
                "class": "chart",
                "viewBox": f"0 0 {frame.width} {frame.height}",
                "role": "img",
                "aria-labelledby": f"{key}-title {key}-desc",
            },
        )
        ElementTree.SubElement(self._root, "title", id=f"{key}-title").text = title
        ElementTree.SubElement(self._root, "desc", id=f"{key}-desc").text = description
        self._legend_end = float(frame.left)
        self._axes(y_ticks)

    def point(self, x: float, y: float, style: str, radius: float = 3, tooltip: str = "") -> None:
        if self._inside(x, y):
            circle = self._add("circle", style, cx=self._px(x), cy=self._py(y), r=radius)
            if tooltip:
                ElementTree.SubElement(circle, "title").text = tooltip

    def diamond(self, x: float, y: float, style: str, radius: float = 7, tooltip: str = "") -> None:
        if self._inside(x, y):
            px, py, r = self._px(x), self._py(y), radius
            corners = ((px, py - r), (px + r, py), (px, py + r), (px - r, py))
            mark = self._add("path", style, d="M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in corners) + "Z")
            if tooltip:
                ElementTree.SubElement(mark, "title").text = tooltip

    def line(self, points: Sequence[tuple[float, float]], style: str, closed: bool = False) -> None:
        """A line through the points, or a filled area when `closed`."""
        if points:
            path = "M" + "L".join(f"{self._px(x):.1f} {self._py(y):.1f}" for x, y in points)
            self._add("path", style, d=path + ("Z" if closed else ""))

    def vertical(self, x: float, style: str, label: str = "", row: int = 0) -> None:
        """A line across the plot with a label at its top; `row` moves the label down, away from another's."""
        if not self._inside(x, self.y.low):
            return
        px = self._px(x)
        self._add("line", style, x1=px, x2=px, y1=self.frame.top, y2=self.frame.height - self.frame.bottom)
        if label:
            left = px > (self.frame.width + self.frame.left) / 2
            anchor = "end" if left else "start"
            text_style = f"label {style}"
            self._text(label, px + (-6 if left else 6), self.frame.top + 12 + 16 * row, text_style, anchor)

    def legend(self, label: str, style: str) -> None:
        """One more entry above the plot, from left to right."""
        self._add("circle", style, cx=self._legend_end + 5, cy=14, r=4.5)
        self._text(label, self._legend_end + 15, 18, "label", "start")
        self._legend_end += 33 + 6.6 * len(label)

    def markup(self) -> str:
        """The SVG element."""
        return ElementTree.tostring(self._root, encoding="unicode")

    def _axes(self, y_ticks: bool) -> None:
        frame = self.frame
        left, right, bottom = frame.left, frame.width - frame.right, frame.height - frame.bottom
        for value in ticks(self.y.low, self.y.high, frame.ticks) if y_ticks else ():
            py = self._py(value)
            self._add("line", "grid", x1=left, x2=right, y1=py, y2=py)
            self._text(self.y.format(value), left - 8, py + 4, "tick", "end")
        for value in ticks(self.x.low, self.x.high, frame.ticks):
            px = self._px(value)
            self._add("line", "axis", x1=px, x2=px, y1=bottom, y2=bottom + 4)
            self._text(self.x.format(value), px, bottom + 18, "tick", "middle")
        self._add("line", "axis", x1=left, x2=right, y1=bottom, y2=bottom)
        if self.x.label:
            self._text(self.x.label, (left + right) / 2, frame.height - 8, "axis-label", "middle")
        if self.y.label:
            middle = (frame.top + bottom) / 2
            turned = self._text(self.y.label, 12, middle, "axis-label", "middle")
            turned.set("transform", f"rotate(-90 12 {middle:.1f})")

    def _inside(self, x: float, y: float) -> bool:
        return self.x.low <= x <= self.x.high and self.y.low <= y <= self.y.high

    def _px(self, x: float) -> float:
        share = (x - self.x.low) / (self.x.high - self.x.low)
        return self.frame.left + share * (self.frame.width - self.frame.left - self.frame.right)

    def _py(self, y: float) -> float:
        share = (y - self.y.low) / (self.y.high - self.y.low)
        return self.frame.height - self.frame.bottom - share * (self.frame.height - self.frame.top - self.frame.bottom)

    def _add(self, tag: str, style: str, **attributes: float | str) -> ElementTree.Element:
        written = {key: value if isinstance(value, str) else f"{value:.1f}" for key, value in attributes.items()}
        return ElementTree.SubElement(self._root, tag, {"class": style, **written})

    def _text(self, text: str, x: float, y: float, style: str, anchor: str) -> ElementTree.Element:
        element = self._add("text", style, x=x, y=y, **{"text-anchor": anchor})
        element.text = text
        return element


def bar(share: float) -> str:
    """A bar for a table cell, filled to `share` of its length; the numbers beside it say the same."""
    root = ElementTree.Element(
        "svg", {"class": "bar", "viewBox": "0 0 100 8", "preserveAspectRatio": "none", "aria-hidden": "true"}
    )
    ElementTree.SubElement(root, "rect", {"class": "track", "width": "100", "height": "8"})
    filled = f"{100 * min(1.0, max(0.0, share)):.2f}"
    ElementTree.SubElement(root, "rect", {"class": "filled", "width": filled, "height": "8"})
    return ElementTree.tostring(root, encoding="unicode")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers in [low, high], `about` as many, in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * power / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]
