"""Amounts as bars in rows, each with its number beside it."""

from __future__ import annotations

from collections.abc import Sequence

from dad_datasets.reporting.chart import WIDTH, drawing, figure, text
from dad_datasets.reporting.markup import Markup, element

LEFT, ROW_HEIGHT, BAR_HEIGHT = 86.0, 24.0, 14.0
VALUE_WIDTH = 116.0


def bar_chart(title: str, note: str, rows: Sequence[tuple[str, float, str]]) -> Markup:
    """`rows` are (name, amount >= 0, the amount as it is shown with its unit)."""
    largest = max((amount for _, amount, _ in rows), default=0.0) or 1.0
    shapes = []
    for place, (name, amount, shown) in enumerate(rows):
        middle = ROW_HEIGHT * (place + 0.5)
        length = (WIDTH - LEFT - VALUE_WIDTH) * amount / largest
        bar = element("rect", x=LEFT, y=middle - BAR_HEIGHT / 2, width=length, height=BAR_HEIGHT, class_="bar s0")
        shapes += [text(LEFT - 8, middle + 4, name, anchor="end"), bar, text(LEFT + length + 6, middle + 4, shown)]
    described = "; ".join(f"{name} {shown}" for name, _, shown in rows)
    return figure(title, note, drawing(ROW_HEIGHT * len(rows) + 4, described, *shapes))
