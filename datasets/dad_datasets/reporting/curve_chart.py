"""Curves as a chart, such as loss or accuracy over the steps of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dad_datasets.reporting.axis import Axis, NumberFormat, plain, round_ticks, rounded_range
from dad_datasets.reporting.chart import (
    RIGHT,
    WIDTH,
    colour,
    dash,
    drawing,
    figure,
    horizontal_axis,
    vertical_axis,
)
from dad_datasets.reporting.markup import Markup, element

HEIGHT, LEFT, TOP, BOTTOM = 238.0, 44.0, 22.0, 202.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points (x, y) from left to right; curves of the same `series` look alike."""

    series: int
    points: Sequence[tuple[float, float]]


def curve_chart(
    title: str,
    note: str,
    curves: Sequence[Curve],
    *,
    series: Sequence[str],
    across_label: str,
    up_label: str,
    shown: NumberFormat = plain,
    begin: float | None = None,
) -> Markup:
    """A chart of `curves`, which have at least one point in all.

    `shown` is for the numbers of the vertical axis; `begin` is where the horizontal one begins, by default at the
    first point.
    """
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points]
    low, high = rounded_range(min(ys), max(ys), 5)
    left, right = min(xs) if begin is None else begin, max(xs)
    if right <= left:
        left, right = right - 0.5, right + 0.5
    across, up = Axis(left, right, LEFT, WIDTH - RIGHT), Axis(low, high, BOTTOM, TOP)
    lines = [_line(curve, across, up) for curve in curves]
    ends = {
        name: [curve.points[-1][1] for curve in curves if curve.series == number and curve.points]
        for number, name in enumerate(series)
    }
    described = "; ".join(
        f"{name} ends at {' and '.join(dict.fromkeys(shown(round(y, 4)) for y in (min(last), max(last))))}"
        for name, last in ends.items()
        if last
    )
    picture = drawing(
        HEIGHT,
        f"{up_label} by {across_label}, from {plain(left)} to {plain(right)}. {described}",
        vertical_axis(up, round_ticks(low, high, 6), shown, left=LEFT, label=up_label),
        horizontal_axis(across, round_ticks(left, right, 6), plain, top=TOP, bottom=BOTTOM, label=across_label),
        *lines,
    )
    return figure(title, note, picture, series=series)


def _line(curve: Curve, across: Axis, up: Axis) -> Markup:
    points = [(across.place(x), up.place(y)) for x, y in curve.points]
    if len(points) == 1:
        return element("circle", cx=points[0][0], cy=points[0][1], r=3, class_=f"mark {colour(curve.series)}")
    return element(
        "polyline",
        points=" ".join(f"{x:.2f},{y:.2f}" for x, y in points),
        class_=f"line {colour(curve.series)}",
        stroke_dasharray=dash(curve.series),
    )
