"""What every chart is made of: a drawing with axes, its title and legend outside it, where text wraps on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dad_datasets.reporting.axis import Axis, NumberFormat
from dad_datasets.reporting.markup import Child, Markup, element

WIDTH = 360.0
"""Of every drawing, in its own pixels: about one to one on a phone, where text must stay readable."""

RIGHT = 16.0
TEXT_HEIGHT = 11.0

NUM_COLOURS = 6
"""Series beyond these have the same colours again, with another dash and marker."""

DASHES = (None, "6 3", "2 3", "8 3 2 3")


CORNERS: Mapping[int, Sequence[tuple[float, float]]] = {
    1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    2: ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    3: ((0, -1.2), (1.2, 1), (-1.2, 1)),
}
"""Of the markers that are no circles: square, diamond, triangle."""


def figure(title: str, note: str, drawing: Markup, *, series: Sequence[str] = (), marked: bool = False) -> Markup:
    """A chart with its caption; more than one of `series` gives a legend, with markers where the chart has them."""
    legend = [
        element("li", _swatch(number, marked=marked), name) for number, name in enumerate(series) if len(series) > 1
    ]
    return element(
        "figure",
        element("figcaption", element("strong", title), element("span", note) if note else ""),
        element("ul", *legend, class_="legend") if legend else "",
        drawing,
        class_="chart",
    )


def drawing(height: float, description: str, *shapes: Child) -> Markup:
    """The picture itself; `description` is read out in its place."""
    return element("svg", *shapes, viewBox=f"0 0 {WIDTH:g} {height:g}", role="img", aria_label=description)


def horizontal_axis(
    axis: Axis, ticks: Sequence[float], shown: NumberFormat, *, top: float, bottom: float, label: str
) -> Markup:
    """Grid lines from `top` to `bottom`, numbers under them, and what they are under those: 32 pixels."""
    lines = [element("line", x1=axis.place(t), x2=axis.place(t), y1=top, y2=bottom, class_="grid") for t in ticks]
    numbers = [text(axis.place(t), bottom + 14, shown(t), anchor="middle") for t in ticks]
    middle = (axis.start + axis.end) / 2
    return element("g", *lines, *numbers, text(middle, bottom + 29, label, anchor="middle", class_="label"))


def vertical_axis(axis: Axis, ticks: Sequence[float], shown: NumberFormat, *, left: float, label: str) -> Markup:
    """Grid lines from `left` to the right border, numbers before them, and what they are above."""
    lines = [
        element("line", x1=left, x2=WIDTH - RIGHT, y1=axis.place(t), y2=axis.place(t), class_="grid") for t in ticks
    ]
    numbers = [text(left - 5, axis.place(t) + 4, shown(t), anchor="end") for t in ticks]
    return element("g", *lines, *numbers, text(2, TEXT_HEIGHT, label, class_="label"))


def text(x: float, y: float, content: str, *, anchor: str | None = None, class_: str | None = None) -> Markup:
    """Text at its baseline."""
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def colour(number: int) -> str:
    """The class of the series' colour."""
    return f"s{number % NUM_COLOURS}"


def dash(number: int) -> str | None:
    """The pattern of a series' line: another one for each round of colours, so that colour is never all there is."""
    return DASHES[(number // NUM_COLOURS + number) % len(DASHES)]


def marker(number: int, x: float, y: float) -> Markup:
    """A series' mark: circle, square, diamond, triangle in turn."""
    kind, r = number % 4, 4.0
    if kind == 0:
        return element("circle", cx=x, cy=y, r=r, class_=f"mark {colour(number)}")
    points = " ".join(f"{x + 0.9 * r * dx:.2f},{y + 0.9 * r * dy:.2f}" for dx, dy in CORNERS[kind])
    return element("polygon", points=points, class_=f"mark {colour(number)}")


def _swatch(number: int, *, marked: bool) -> Markup:
    line = element("line", x1=1, x2=25, y1=7, y2=7, class_=f"line {colour(number)}", stroke_dasharray=dash(number))
    shape = marker(number, 13.0, 7.0) if marked else line
    return element("svg", shape, viewBox="0 0 26 14", class_="swatch", aria_hidden="true")
