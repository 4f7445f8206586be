"""A drawing of lines, marks and text that becomes an SVG file."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from rich.cells import cell_len

__all__ = ["Canvas", "text_width"]

_CELL = 0.61
"""Width of a character of a monospaced font, as a share of the font's size."""

# XML 1.0 has no way to write these, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Canvas:
    """A picture, or a part of one, that is drawn from the back to the front. Text is escaped and monospaced."""

    def __init__(self, element: ElementTree.Element) -> None:
        self._element = element

    @classmethod
    def blank(cls, width: float, height: float, label: str) -> Canvas:
        """A white picture.

        Args:
            label: for readers who do not see the picture.
        """
        attributes = {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": _number(width),
            "height": _number(height),
            "viewBox": f"0 0 {_number(width)} {_number(height)}",
            "font-family": "monospace",
            "role": "img",
            "aria-label": _clean(label),
        }
        made = cls(ElementTree.Element("svg", attributes))
        made.rectangle(0, 0, width, height, "#ffffff")  # a viewer with a dark page would show it through
        return made

    def part(self, tooltip: str, **data: str) -> Canvas:
        """A part to draw on; `data` is kept with it, for programs that read the file."""
        element = self._add("g", **{f"data-{key}": _clean(value) for key, value in data.items()})
        ElementTree.SubElement(element, "title").text = _clean(tooltip)
        return Canvas(element)

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str, width: float) -> None:
        (x1, y1), (x2, y2) = start, end
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, stroke_width=width, stroke_linecap="round")

    def rectangle(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        self._add("rect", x=x, y=y, width=width, height=height, fill=fill)

    def circle(self, x: float, y: float, radius: float, fill: str, stroke: str, width: float = 2) -> None:
        self._add("circle", cx=x, cy=y, r=radius, fill=fill, stroke=stroke, stroke_width=width)

    def text(
        self, x: float, y: float, *runs: tuple[str, str], size: float = 12, anchor: str = "start", bold: bool = False
    ) -> None:
        """A line of text in the middle of whose height `y` lies; runs are a colour and what is written in it."""
        weight = {"font_weight": "bold"} if bold else {}
        (colour, text), *others = runs
        line = self._add(
            "text", x=x, y=y + 0.35 * size, fill=colour, font_size=f"{size:g}", text_anchor=anchor, **weight
        )
        line.text = _clean(text)
        for colour, text in others:
            ElementTree.SubElement(line, "tspan", fill=colour).text = _clean(text)

    def svg(self) -> bytes:
        """The file."""
        return ElementTree.tostring(self._element, encoding="utf-8", xml_declaration=True) + b"\n"

    def _add(self, tag: str, **attributes: float | str) -> ElementTree.Element:
        written = {
            key.replace("_", "-"): value if isinstance(value, str) else _number(value)
            for key, value in attributes.items()
        }
        element = ElementTree.SubElement(self._element, tag, written)
        element.tail = "\n"
        return element


def text_width(text: str, size: float = 12) -> float:
    """About how wide a text is, in pixels."""
    return cell_len(text) * size * _CELL


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
