"""Histograms as a chart: the share of views in each bar, one outline for each series."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dad_datasets.reporting.axis import Axis, NumberFormat, percent, round_ticks, rounded_range
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
from dad_datasets.reporting.histogram import Histogram, bars
from dad_datasets.reporting.markup import Markup, element

HEIGHT, LEFT, TOP, BOTTOM = 218.0, 40.0, 22.0, 182.0
MOST_BARS = 40


def histogram_chart(
    title: str, note: str, series: Mapping[str, Histogram], *, label: str, shown: NumberFormat
) -> Markup:
    """A chart of `series` by name, which have the same range and together at least one value."""
    series = {name: histogram for name, histogram in series.items() if histogram.total}
    edges, counts = bars(list(series.values()), MOST_BARS)
    shares = [each / histogram.total for each, histogram in zip(counts, series.values(), strict=True)]
    across = Axis(float(edges[0]), float(edges[-1]), LEFT, WIDTH - RIGHT)
    _, highest = rounded_range(0.0, max(float(each.max()) for each in shares), 5)
    up = Axis(0.0, highest, BOTTOM, TOP)
    outlines = [_outline(number, edges, each, across, up) for number, each in enumerate(shares)]
    described = "; ".join(
        f"{name}: {_described(each, edges, shown)}" for name, each in zip(series, shares, strict=True)
    )
    picture = drawing(
        HEIGHT,
        f"Histogram of {label}. {described}",
        vertical_axis(up, round_ticks(0.0, highest, 6), percent, left=LEFT, label="% of the views"),
        horizontal_axis(across, round_ticks(across.low, across.high, 7), shown, top=TOP, bottom=BOTTOM, label=label),
        *outlines,
    )
    return figure(title, note, picture, series=tuple(series))


def _outline(
    number: int, edges: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], across: Axis, up: Axis
) -> Markup:
    """Steps over the bars, filled faintly, so that two of them can be seen at once."""
    corners = [(across.place(float(edges[0])), up.start)]
    for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True):
        corners += [(across.place(float(x)), up.place(float(share))) for x in (low, high)]
    corners.append((across.place(float(edges[-1])), up.start))
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in corners)
    return element(
        "g",
        element("polygon", points=points, class_=f"area {colour(number)}"),
        element("polyline", points=points, class_=f"line {colour(number)}", stroke_dasharray=dash(number)),
    )


def _described(shares: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], shown: NumberFormat) -> str:
    peak, used = int(shares.argmax()), np.flatnonzero(shares)
    return (
        f"from {shown(float(edges[used[0]]))} to {shown(float(edges[used[-1] + 1]))}, "
        f"most often {shown(float(edges[peak]))} to {shown(float(edges[peak + 1]))} "
        f"({100 * shares[peak]:.0f} % of the views)"
    )
