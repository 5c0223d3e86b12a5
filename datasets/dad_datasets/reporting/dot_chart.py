"""Means with their deviations as dots in rows, such as each student's accuracy on each corruption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dad_datasets.reporting.axis import Axis, NumberFormat, round_ticks, rounded_range
from dad_datasets.reporting.chart import RIGHT, WIDTH, colour, drawing, figure, horizontal_axis, marker, text
from dad_datasets.reporting.markup import Markup, element
from dad_datasets.reporting.spread import Spread

LEFT, TOP = 112.0, 6.0
DOT_HEIGHT, ROW_GAP = 10.0, 9.0


@dataclass(frozen=True, kw_only=True)
class DotRow:
    """A row of the chart: its name, and a value for each series; None where a series has none."""

    name: str
    values: Sequence[Spread | None]


def dot_chart(
    title: str, note: str, rows: Sequence[DotRow], *, series: Sequence[str], label: str, shown: NumberFormat
) -> Markup:
    """A chart of at least one value. The bar through a dot is its mean plus and minus the standard deviation."""
    ends = [
        value.mean + sign * (value.deviation or 0.0)
        for row in rows
        for value in row.values
        if value is not None
        for sign in (-1, 1)
    ]
    low, high = rounded_range(min(ends), max(ends), 5)
    across = Axis(low, high, LEFT, WIDTH - RIGHT)
    row_height = DOT_HEIGHT * len(series) + ROW_GAP
    bottom = TOP + row_height * len(rows)
    stripes: list[Markup] = []
    shapes: list[Markup] = []
    for place, row in enumerate(rows):
        top = TOP + place * row_height
        middle = top + row_height / 2
        if place % 2:
            stripes.append(element("rect", x=0, y=top, width=WIDTH, height=row_height, class_="stripe"))
        shapes.append(text(LEFT - 8, middle + 4, row.name, anchor="end"))
        for number, value in enumerate(row.values):
            if value is not None:
                y = middle + (number - (len(series) - 1) / 2) * DOT_HEIGHT
                shapes.append(_dot(number, value, across, y))
    described = "; ".join(
        f"{row.name}: "
        + ", ".join(
            f"{name} {shown(round(value.mean, 4))}"
            for name, value in zip(series, row.values, strict=True)
            if value is not None
        )
        for row in rows
    )
    picture = drawing(
        bottom + 36,
        f"{label}. {described}",
        *stripes,
        horizontal_axis(across, round_ticks(low, high, 6), shown, top=TOP, bottom=bottom, label=label),
        *shapes,
    )
    return figure(title, note, picture, series=series, marked=True)


def _dot(number: int, value: Spread, across: Axis, y: float) -> Markup:
    dot = marker(number, across.place(value.mean), y)
    if value.deviation is None:
        return dot
    low, high = across.place(value.mean - value.deviation), across.place(value.mean + value.deviation)
    return element("g", element("line", x1=low, x2=high, y1=y, y2=y, class_=f"range {colour(number)}"), dot)
