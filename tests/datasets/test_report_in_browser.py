"""The pages in a real browser: no scrolling sideways on a phone, pictures drawn, readable in both colour schemes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, measured

from dad_datasets.reporting.axis import percent, plain
from dad_datasets.reporting.bar_chart import bar_chart
from dad_datasets.reporting.curve_chart import Curve, curve_chart
from dad_datasets.reporting.dot_chart import DotRow, dot_chart
from dad_datasets.reporting.histogram import Histogram
from dad_datasets.reporting.histogram_chart import histogram_chart
from dad_datasets.reporting.markup import Markup, element
from dad_datasets.reporting.page import Section, page
from dad_datasets.reporting.picture import picture
from dad_datasets.reporting.spread import Spread
from dad_datasets.reporting.table import facts, folded, key_figures, table

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")

LONG = "averylongnamewithoutanyplacetobreakit" * 4


def everything() -> bytes:
    """A page with one of each part, and names too long for it."""
    counts = Histogram(0.0, 1.0)
    counts.add(np.random.default_rng(0).beta(2, 5, 1000))
    students = [f"student {number} {'x' * 20}" for number in range(9)]
    charts: list[Markup] = [
        histogram_chart(LONG, LONG, {"one": counts, LONG: counts}, label="share, %", shown=percent),
        curve_chart(
            "Curves",
            "",
            [Curve(series=number, points=[(0, number), (1000, 1)]) for number in range(9)],
            series=students,
            across_label="step",
            up_label="loss",
            shown=plain,
        ),
        dot_chart(
            "Dots",
            "",
            [DotRow(name=name, values=[Spread(0.5, 0.1, 3), None]) for name in ("fog", "snow")],
            series=["a", "b"],
            label="accuracy, %",
            shown=percent,
        ),
        bar_chart("Bars", "", [("models", 300.0, "5 min 0 s, 95%"), ("write", 0.0, "0 s, 0%")]),
    ]
    content = [
        facts({"name": LONG, LONG: "value"}),
        folded(LONG, element("pre", LONG, tabindex=0)),
        table(LONG, ["class", *students], [[LONG, *["12.3 ± 4.5"] * 9]] * 3),
        element("div", *charts, class_="charts"),
        picture(np.zeros((32, 32, 3), dtype=np.uint8), "black"),
    ]
    return page(LONG, "Kind", LONG, [key_figures({LONG: "100,000"})], [Section(title=LONG, content=content)])


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of `rgb(r, g, b)`."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_stands_out_of_the_page(tmp_path: Path, dark: bool) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(everything())
    seen = measured(path, (360, 1280), dark=dark, profile=tmp_path / "profile")
    assert {each["frame"] for each in seen} == {360, 1280}
    for each in seen:
        assert each["width"] == each["frame"]
        assert each["spilt"] == []
        assert (each["images"], each["broken"], each["small"]) == (1, 0, 0)
        text, ground = luminance(each["text"]), luminance(each["ground"])
        assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) > 7
        assert (ground < 0.05) == dark


def test_what_is_too_wide_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    wide = [element("div", "wide", class_="wide"), Markup("<style>.wide { width: 500px; }</style>")]
    path.write_bytes(page("a", "b", "c", [], [Section(title="One", content=wide)]))
    (seen,) = measured(path, (360,), dark=False, profile=tmp_path / "profile")
    assert seen["width"] > 360
    assert len(seen["spilt"]) == 1
